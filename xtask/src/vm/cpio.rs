//! Archives as the kernel unpacks them at its start: cpio in the "newc" format.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context as _, Result};

/// The bits of a mode that say what an entry is.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// Where the data of the next entry has to begin, bytes.
const ALIGNED: u64 = 4;

/// An archive that is being written. Everything in it belongs to root.
pub struct Archive<W: Write> {
    out: W,
    written: u64,
    entries: u32,
}

impl Archive<BufWriter<File>> {
    /// Starts an archive in a new file.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(file: &Path) -> Result<Self> {
        let made =
            File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self::new(BufWriter::new(made)))
    }
}

impl<W: Write> Archive<W> {
    /// Starts an archive.
    pub fn new(out: W) -> Self {
        Self {
            out,
            written: 0,
            entries: 0,
        }
    }

    /// Adds a directory. Its parents have to be there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn directory(&mut self, name: &str) -> Result<()> {
        self.entry(name, DIRECTORY | 0o755, &[])
    }

    /// Adds a file.
    ///
    /// # Errors
    /// When it cannot be written, or is larger than the format allows (4 GiB).
    pub fn file(&mut self, name: &str, permissions: u32, content: &[u8]) -> Result<()> {
        self.entry(name, REGULAR | permissions, content)
    }

    /// Adds a file with the content of one that is here.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn copy(&mut self, name: &str, permissions: u32, from: &Path) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.file(name, permissions, &content)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn symlink(&mut self, name: &str, target: &str) -> Result<()> {
        self.entry(name, SYMLINK | 0o777, target.as_bytes())
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<W> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entries += 1;
        let links = if mode & DIRECTORY == DIRECTORY && mode & REGULAR != REGULAR {
            2
        } else {
            1
        };
        let size = u32::try_from(content.len())
            .with_context(|| format!("{name} is too large for an archive"))?;
        let name_size = u32::try_from(name.len() + 1).context("a name is too long")?;
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor,
        // namesize, check.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            size,
            0,
            0,
            0,
            0,
            name_size,
            0,
        ];
        let mut header = "070701".to_owned();
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        self.put(header.as_bytes())?;
        self.put(name.as_bytes())?;
        self.put(&[0])?;
        self.align()?;
        self.put(content)?;
        self.align()?;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn align(&mut self) -> io::Result<()> {
        while !self.written.is_multiple_of(ALIGNED) {
            self.put(&[0])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_laid_out_as_the_kernel_reads_it() {
        let mut archive = Archive::new(Vec::new());
        archive.directory("bin").unwrap();
        archive.file("bin/a", 0o755, b"hello").unwrap();
        archive.symlink("sh", "bin/a").unwrap();
        let bytes = archive.finish().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(bytes.len() % 4, 0);
        assert!(text.starts_with("070701000000010000"), "{text}");
        // mode 040755, two links, no content, a name of four bytes.
        assert_eq!(&text[14..22], "000041ed");
        assert_eq!(&text[38..46], "00000002");
        assert_eq!(&text[94..102], "00000004");
        // 110 bytes of header, name and NUL, filled up to a multiple of four.
        assert_eq!(&text[110..116], "bin\0\0\0");
        assert_eq!(&text[116..122], "070701");
        let content = 116 + 110 + "bin/a\0".len();
        assert_eq!(&text[content..content + 8], "hello\0\0\0");
        assert_eq!(text.matches("070701").count(), 4);
        assert!(text.contains("TRAILER!!!\0"));
    }
}
