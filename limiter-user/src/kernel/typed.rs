//! Maps of one kind each, with the types of what stands in them: one by one, and many in one call
//! where the kernel has that.

use std::{
    borrow::Borrow,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Pod,
    maps::{
        Array, HashMap, Map, MapData, MapError, MapInfo,
        lpm_trie::{Key, LpmTrie},
    },
};

use super::{KernelError, batch, calls};

/// An array, with its name for messages.
pub struct TypedArray<V: Pod> {
    name: &'static str,
    id: u32,
    /// The map once more, for calls that aya does not make.
    fd: OwnedFd,
    map: Array<MapData, V>,
    flags: u64,
}

impl<V: Pod> TypedArray<V> {
    /// The map's id: no other map of this boot has it.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.map.len()
    }

    /// Whether it has no entries, which no map of the kernel's is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.len() == 0
    }

    /// The entry at `index`.
    ///
    /// # Errors
    ///
    /// The index is out of range.
    pub fn get(&self, index: u32) -> Result<V, KernelError> {
        calls::count();
        self.map
            .get(&index, self.flags)
            .map_err(KernelError::map(self.name, "read"))
    }

    /// Replaces the entry at `index`.
    ///
    /// # Errors
    ///
    /// The index is out of range.
    pub fn set(&mut self, index: u32, value: impl Borrow<V>) -> Result<(), KernelError> {
        calls::count();
        self.map
            .set(index, value, self.flags)
            .map_err(KernelError::map(self.name, "write"))
    }

    /// Replaces many entries. For arrays whose values have no lock.
    ///
    /// # Errors
    ///
    /// An index is out of range.
    pub fn set_many(&mut self, entries: &[(u32, V)]) -> Result<(), KernelError> {
        let (indices, values): (Vec<u32>, Vec<V>) = entries.iter().copied().unzip();
        self.set_all(&indices, &values)
    }

    /// Replaces the entries at `indices` by the values in the same places. For arrays whose values
    /// have no lock.
    ///
    /// # Errors
    ///
    /// An index is out of range.
    pub fn set_all(&mut self, indices: &[u32], values: &[V]) -> Result<(), KernelError> {
        if batch::update(self.fd.as_fd(), indices, values)? {
            return Ok(());
        }
        indices
            .iter()
            .zip(values)
            .try_for_each(|(index, value)| self.set(*index, value))
    }

    /// All entries, in their order. For arrays whose values have no lock.
    ///
    /// # Errors
    ///
    /// The kernel refuses to read them.
    pub fn all(&self) -> Result<Vec<V>, KernelError> {
        if let Some(entries) = batch::read::<u32, V>(self.fd.as_fd())? {
            return Ok(entries.into_iter().map(|(_, value)| value).collect());
        }
        (0..self.len()).map(|index| self.get(index)).collect()
    }
}

/// A hash, with its name for messages.
pub struct TypedHash<K: Pod, V: Pod> {
    name: &'static str,
    room: usize,
    /// The map once more, for calls that aya does not make.
    fd: OwnedFd,
    map: HashMap<MapData, K, V>,
}

impl<K: Pod, V: Pod> TypedHash<K, V> {
    /// How many entries it can hold.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.room
    }

    /// The value of `key`, `None` if there is none.
    ///
    /// # Errors
    ///
    /// The kernel refuses to look it up.
    pub fn get(&self, key: &K) -> Result<Option<V>, KernelError> {
        calls::count();
        match self.map.get(key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(KernelError::map(self.name, "read")(error)),
        }
    }

    /// All entries.
    ///
    /// # Errors
    ///
    /// The kernel refuses to list them.
    pub fn entries(&self) -> Result<Vec<(K, V)>, KernelError> {
        if let Some(entries) = batch::read::<K, V>(self.fd.as_fd())? {
            return Ok(entries);
        }
        calls::count();
        self.map
            .iter()
            .collect::<Result<_, _>>()
            .map_err(KernelError::map(self.name, "list"))
    }

    /// Sets the values of many keys, each of them once.
    ///
    /// # Errors
    ///
    /// The map is full; those before are written.
    pub fn insert_many(&mut self, entries: &[(K, V)]) -> Result<(), KernelError> {
        let (keys, values): (Vec<K>, Vec<V>) = entries.iter().copied().unzip();
        self.insert_all(&keys, &values)
    }

    /// Sets the values of many keys, each of them once, to those in the same places.
    ///
    /// # Errors
    ///
    /// The map is full; those before are written.
    pub fn insert_all(&mut self, keys: &[K], values: &[V]) -> Result<(), KernelError> {
        if batch::update(self.fd.as_fd(), keys, values)? {
            return Ok(());
        }
        keys.iter()
            .zip(values)
            .try_for_each(|(key, value)| self.insert(*key, *value))
    }

    /// Sets the value of `key`.
    ///
    /// # Errors
    ///
    /// The map is full.
    pub fn insert(&mut self, key: K, value: V) -> Result<(), KernelError> {
        calls::count();
        self.map
            .insert(key, value, 0)
            .map_err(KernelError::map(self.name, "write"))
    }

    /// Removes `key`; it is no fault if it is not there.
    ///
    /// # Errors
    ///
    /// The kernel refuses to remove it.
    pub fn remove(&mut self, key: &K) -> Result<(), KernelError> {
        calls::count();
        absent_is_fine(self.map.remove(key), self.name)
    }
}

/// A trie of prefixes, with its name for messages.
pub struct TypedTrie<K: Pod, V: Pod> {
    name: &'static str,
    room: usize,
    /// The map once more, for calls that aya does not make.
    fd: OwnedFd,
    map: LpmTrie<MapData, K, V>,
}

impl<K: Pod, V: Pod> TypedTrie<K, V> {
    /// How many prefixes it can hold.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.room
    }

    /// The value of the longest prefix that holds all bits of `key`.
    ///
    /// # Errors
    ///
    /// The kernel refuses to look it up.
    pub fn get(&self, bits: u32, key: K) -> Result<Option<V>, KernelError> {
        calls::count();
        match self.map.get(&Key::new(bits, key), 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(KernelError::map(self.name, "read")(error)),
        }
    }

    /// All prefixes as (length in bits, data, value).
    ///
    /// # Errors
    ///
    /// The kernel refuses to list them.
    pub fn entries(&self) -> Result<Vec<(u32, K, V)>, KernelError> {
        if let Some(entries) = batch::read::<Key<K>, V>(self.fd.as_fd())? {
            return Ok(entries
                .into_iter()
                .map(|(key, value)| (key.prefix_len(), key.data(), value))
                .collect());
        }
        calls::count();
        self.map
            .iter()
            .map(|entry| entry.map(|(key, value)| (key.prefix_len(), key.data(), value)))
            .collect::<Result<_, _>>()
            .map_err(KernelError::map(self.name, "list"))
    }

    /// Sets the value of a prefix.
    ///
    /// # Errors
    ///
    /// The map is full.
    pub fn insert(&mut self, bits: u32, key: K, value: V) -> Result<(), KernelError> {
        let key = Key::new(bits, key);
        calls::count();
        self.map
            .insert(&key, value, 0)
            .map_err(KernelError::map(self.name, "write"))
    }

    /// Removes a prefix; it is no fault if it is not there.
    ///
    /// # Errors
    ///
    /// The kernel refuses to remove it.
    pub fn remove(&mut self, bits: u32, key: K) -> Result<(), KernelError> {
        let key = Key::new(bits, key);
        calls::count();
        absent_is_fine(self.map.remove(&key), self.name)
    }
}

impl<K: Pod, V: Pod> TypedTrie<K, V> {
    /// Sets the values of many prefixes (length in bits, data, value), each of them once.
    ///
    /// # Errors
    ///
    /// The map is full; those before are written.
    pub fn set_many(&mut self, prefixes: &[(u32, K, V)]) -> Result<(), KernelError> {
        let (keys, values): (Vec<Key<K>>, Vec<V>) = prefixes
            .iter()
            .map(|(bits, key, value)| (Key::new(*bits, *key), *value))
            .unzip();
        if batch::update(self.fd.as_fd(), &keys, &values)? {
            return Ok(());
        }
        prefixes
            .iter()
            .try_for_each(|(bits, key, value)| self.insert(*bits, *key, *value))
    }

    /// Sets the value of many prefixes (length in bits, data).
    ///
    /// # Errors
    ///
    /// The map is full; those before are written.
    pub fn insert_many(&mut self, prefixes: &[(u32, K)], value: V) -> Result<(), KernelError> {
        let keys: Vec<Key<K>> = prefixes
            .iter()
            .map(|(bits, k)| Key::new(*bits, *k))
            .collect();
        if batch::update(self.fd.as_fd(), &keys, &vec![value; keys.len()])? {
            return Ok(());
        }
        prefixes
            .iter()
            .try_for_each(|(bits, key)| self.insert(*bits, *key, value))
    }

    /// Removes many prefixes; it is no fault if some are not there.
    ///
    /// # Errors
    ///
    /// The kernel refuses to remove one; those before are gone.
    pub fn remove_many(&mut self, prefixes: &[(u32, K)]) -> Result<(), KernelError> {
        let keys: Vec<Key<K>> = prefixes
            .iter()
            .map(|(bits, k)| Key::new(*bits, *k))
            .collect();
        if batch::remove(self.fd.as_fd(), &keys)? {
            return Ok(());
        }
        prefixes
            .iter()
            .try_for_each(|(bits, key)| self.remove(*bits, *key))
    }
}

fn absent_is_fine(result: Result<(), MapError>, name: &'static str) -> Result<(), KernelError> {
    match result {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        Err(error) => Err(KernelError::map(name, "write")(error)),
    }
}

/// Gives a map by its name.
pub(super) type TakeMap<'a> = &'a mut dyn FnMut(&'static str) -> Result<Map, KernelError>;

pub(super) fn array<V: Pod>(
    name: &'static str,
    map: TakeMap<'_>,
    flags: u64,
) -> Result<TypedArray<V>, KernelError> {
    let map = map(name)?;
    let (fd, info) = once_more(&map, name)?;
    let map = map.try_into().map_err(KernelError::map(name, "open"))?;
    Ok(TypedArray {
        name,
        id: info.id(),
        fd,
        map,
        flags,
    })
}

pub(super) fn hash<K: Pod, V: Pod>(
    name: &'static str,
    map: TakeMap<'_>,
) -> Result<TypedHash<K, V>, KernelError> {
    let map = map(name)?;
    let (fd, info) = once_more(&map, name)?;
    let room = room(&info);
    let map = map.try_into().map_err(KernelError::map(name, "open"))?;
    Ok(TypedHash {
        name,
        room,
        fd,
        map,
    })
}

pub(super) fn trie<K: Pod, V: Pod>(
    name: &'static str,
    map: TakeMap<'_>,
) -> Result<TypedTrie<K, V>, KernelError> {
    let map = map(name)?;
    let (fd, info) = once_more(&map, name)?;
    let room = room(&info);
    let map = map.try_into().map_err(KernelError::map(name, "open"))?;
    Ok(TypedTrie {
        name,
        room,
        fd,
        map,
    })
}

/// A second descriptor of a map, and what the kernel says of it.
fn once_more(map: &Map, name: &'static str) -> Result<(OwnedFd, MapInfo), KernelError> {
    let (Map::Array(data) | Map::HashMap(data) | Map::LruHashMap(data) | Map::LpmTrie(data)) = map
    else {
        return Err(KernelError::Btf(format!(
            "the map {name} is of another type"
        )));
    };
    let info = data.info().map_err(KernelError::map(name, "open"))?;
    let fd = data
        .fd()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| KernelError::Syscall {
            call: "fcntl",
            source,
        })?;
    Ok((fd, info))
}

/// How many entries it takes.
fn room(info: &MapInfo) -> usize {
    usize::try_from(info.max_entries()).unwrap_or(usize::MAX)
}
