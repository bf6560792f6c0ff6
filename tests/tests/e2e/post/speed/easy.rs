//! Services that look at nothing.

use std::{
    fs::{self, Permissions},
    io::{self, BufReader, Read, Write},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    thread,
};

/// Services that look at nothing: what being asked costs a mail server at least.
pub struct Easy {
    /// Where `policy` and `milter` are.
    pub directory: PathBuf,
}

impl Easy {
    pub fn start(directory: &Path) -> Self {
        fs::create_dir(directory).expect("the node is new");
        let open = |name, answer: fn(UnixStream) -> io::Result<()>| {
            let path = directory.join(name);
            let listener = UnixListener::bind(&path).expect("the directory is new");
            fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("it is ours");
            // They end with the tests.
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    thread::spawn(move || answer(stream));
                }
            });
        };
        fs::set_permissions(directory, Permissions::from_mode(0o755)).expect("it is ours");
        open("policy", Self::policy);
        open("milter", Self::milter);
        Self {
            directory: directory.to_owned(),
        }
    }

    fn policy(mut stream: UnixStream) -> io::Result<()> {
        let mut question = [0; 8192];
        let mut read = 0;
        loop {
            read += match stream.read(&mut question[read..])? {
                0 => return Ok(()),
                more => more,
            };
            if question[..read].ends_with(b"\n\n") {
                stream.write_all(b"action=DUNNO\n\n")?;
                read = 0;
            }
        }
    }

    /// Asks for what limiter's milter asks for.
    fn milter(stream: UnixStream) -> io::Result<()> {
        let mut writer = stream.try_clone()?;
        let mut reader = BufReader::new(stream);
        let mut data = Vec::new();
        loop {
            let mut length = [0; 4];
            if reader.read_exact(&mut length).is_err() {
                return Ok(());
            }
            data.resize(u32::from_be_bytes(length) as usize, 0);
            reader.read_exact(&mut data)?;
            match data[0] {
                b'O' => {
                    let mut answer = vec![0, 0, 0, 13, b'O', 0, 0, 0, 6, 0, 0, 0, 0];
                    answer.extend(0x000e_f1f2_u32.to_be_bytes());
                    writer.write_all(&answer)?;
                }
                b'T' | b'E' => writer.write_all(&[0, 0, 0, 1, b'c'])?,
                b'Q' => return Ok(()),
                _ => {}
            }
        }
    }
}
