//! Lines from somebody who may be hostile: each of a bounded length.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How much is read at once, bytes.
const PIECE: usize = 4096;

/// Reads lines.
#[derive(Debug)]
pub struct Lines<R> {
    from: R,
    buffer: Vec<u8>,
    /// Where what was not given out yet begins.
    start: usize,
    /// Up to where no end of a line is.
    looked: usize,
}

/// A line, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// One, without its end.
    Whole(Vec<u8>),
    /// It is longer than allowed; what follows cannot be told apart any more.
    TooLong,
    /// The other end has ended. What it began and did not end is no line.
    End,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Reads from here.
    pub fn new(from: R) -> Self {
        Self {
            from,
            buffer: Vec::new(),
            start: 0,
            looked: 0,
        }
    }

    /// The next line, of at most `most` bytes without its end (`\n`). May be dropped and called again:
    /// nothing is lost.
    ///
    /// # Errors
    /// What the connection says.
    pub async fn next(&mut self, most: usize) -> io::Result<Line> {
        loop {
            let fresh = self.buffer.get(self.looked..).unwrap_or_default();
            if let Some(end) = fresh.iter().position(|byte| *byte == b'\n') {
                let end = self.looked + end;
                if end - self.start > most {
                    return Ok(Line::TooLong);
                }
                let line = self
                    .buffer
                    .get(self.start..end)
                    .unwrap_or_default()
                    .to_vec();
                self.start = end + 1;
                self.looked = self.start;
                return Ok(Line::Whole(line));
            }
            self.looked = self.buffer.len();
            if self.looked - self.start > most {
                return Ok(Line::TooLong);
            }
            self.buffer.drain(..self.start);
            self.looked -= self.start;
            self.start = 0;
            // What one long line needed is not kept for ever.
            if self.buffer.is_empty() && self.buffer.capacity() > 16 * PIECE {
                self.buffer = Vec::new();
            }
            self.buffer.reserve(PIECE);
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return Ok(Line::End);
            }
        }
    }

    /// Whether something was received that was not given out.
    pub fn has_more(&self) -> bool {
        self.start < self.buffer.len()
    }

    /// Where lines come from, to answer there.
    pub fn inner(&mut self) -> &mut R {
        &mut self.from
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::runtime::Builder;

    use super::*;

    fn read(pieces: &[&[u8]], most: usize) -> Vec<Line> {
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut there, here) = tokio::io::duplex(7);
            let mut lines = Lines::new(here);
            let write = async {
                for piece in pieces {
                    // Whoever gave up reads no more.
                    let _ = tokio::io::AsyncWriteExt::write_all(&mut there, piece).await;
                }
                drop(there);
            };
            let read = async {
                let mut found = Vec::new();
                loop {
                    let line = lines.next(most).await.unwrap();
                    let last = line == Line::End || line == Line::TooLong;
                    found.push(line);
                    if last {
                        drop(lines);
                        return found;
                    }
                }
            };
            tokio::join!(write, read).1
        })
    }

    fn whole(text: &str) -> Line {
        Line::Whole(text.as_bytes().to_vec())
    }

    #[test]
    fn lines_have_a_bound() {
        assert_eq!(
            read(&[b"ab\n\ncd\nef"], 2),
            [whole("ab"), whole(""), whole("cd"), Line::End]
        );
        assert_eq!(read(&[b"abc\n"], 2), [Line::TooLong]);
        assert_eq!(
            read(&[b"ab\nabcdefghijklmnop"], 2),
            [whole("ab"), Line::TooLong]
        );
        assert_eq!(read(&[], 2), [Line::End]);
    }

    proptest! {
        #[test]
        fn how_it_is_cut_makes_no_difference(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            cuts in proptest::collection::vec(0..200_usize, 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            let mut expected: Vec<Line> = text
                .split(|byte| *byte == b'\n')
                .map(|line| Line::Whole(line.to_vec()))
                .collect();
            expected.pop();
            expected.push(Line::End);
            prop_assert_eq!(read(&pieces, 1000), expected);
        }
    }
}
