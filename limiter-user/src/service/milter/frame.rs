//! Frames of the milter protocol: how long, a letter that says what, and the rest.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// Longer frames are not read. A body comes in pieces of 64 KiB, a header has at most as much; the
/// commands that are asked for here are far shorter.
pub(super) const MOST_BYTES: u32 = 128 << 10;

/// A frame, as it was received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    /// Which command it is.
    pub(super) letter: u8,
    /// What belongs to it.
    pub(super) data: Vec<u8>,
}

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// It is longer than any can be, or has no letter.
    #[error("a frame of {0} bytes")]
    Length(u32),
    /// It began, and did not come to its end in time, or was not taken in time.
    #[error("the other side stalled")]
    Stalled,
    /// Nothing came for as long as a mail server may be silent.
    #[error("nothing was heard for too long")]
    Idle,
}

/// Reads the next frame into `frame`; `false` if the other side is done. It may take `idle` until it
/// begins, and then `whole` until it is there.
pub(super) async fn read(
    reader: &mut (impl AsyncBufRead + Unpin),
    frame: &mut Frame,
    idle: Duration,
    whole: Duration,
) -> Result<bool, FrameError> {
    let begun = timeout(idle, reader.fill_buf())
        .await
        .map_err(|_| FrameError::Idle)??;
    if begun.is_empty() {
        return Ok(false);
    }
    let read = async {
        let length = reader.read_u32().await?;
        if !(1..=MOST_BYTES).contains(&length) {
            return Err(FrameError::Length(length));
        }
        frame.letter = reader.read_u8().await?;
        frame.data.clear();
        // What is announced is not believed: the buffer grows with what comes.
        let rest = u64::from(length - 1);
        let got = reader.take(rest).read_to_end(&mut frame.data).await?;
        if u64::try_from(got).unwrap_or(u64::MAX) < rest {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(())
    };
    timeout(whole, read)
        .await
        .map_err(|_| FrameError::Stalled)??;
    Ok(true)
}

/// Sends a frame within `limit`.
pub(super) async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    letter: u8,
    data: &[u8],
    limit: Duration,
) -> Result<(), FrameError> {
    let length = u32::try_from(data.len() + 1).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(data.len() + 5);
    bytes.extend(length.to_be_bytes());
    bytes.push(letter);
    bytes.extend(data);
    let send = async {
        writer.write_all(&bytes).await?;
        writer.flush().await
    };
    timeout(limit, send)
        .await
        .map_err(|_| FrameError::Stalled)??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    async fn read_all(mut bytes: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, FrameError> {
        let mut frame = Frame::default();
        let mut found = Vec::new();
        while read(&mut bytes, &mut frame, SOON, SOON).await? {
            found.push((frame.letter, frame.data.clone()));
        }
        Ok(found)
    }

    #[tokio::test]
    async fn frames_follow_one_another() {
        let mut bytes = Vec::new();
        write(&mut bytes, b'T', &[], SOON).await.unwrap();
        write(&mut bytes, b'H', b"host\0", SOON).await.unwrap();
        assert_eq!(bytes, b"\0\0\0\x01T\0\0\0\x06Hhost\0");
        let found = read_all(&bytes).await.unwrap();
        assert_eq!(found, [(b'T', Vec::new()), (b'H', b"host\0".to_vec())]);
        assert!(read_all(b"").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_is_cut_short_or_too_long_is_an_error() {
        for torn in [
            b"\0".as_slice(),
            b"\0\0\0\x01",
            b"\0\0\0\x06Hhos",
            b"\0\0\0\0T",
            b"\0\x02\0\x01T",
            b"\xff\xff\xff\xffT",
        ] {
            assert!(read_all(torn).await.is_err(), "{torn:?}");
        }
    }

    #[tokio::test]
    async fn who_stalls_is_left() {
        let (mut here, there) = tokio::io::duplex(64);
        let mut there = tokio::io::BufReader::new(there);
        let mut frame = Frame::default();
        let silent = read(&mut there, &mut frame, SOON, SOON).await;
        assert!(matches!(silent, Err(FrameError::Idle)));
        here.write_all(b"\0\0").await.unwrap();
        let slow = read(&mut there, &mut frame, SOON, SOON).await;
        assert!(matches!(slow, Err(FrameError::Stalled)));
        // And who does not take what is sent.
        let full = write(&mut here, b'y', &[0; 256], SOON).await;
        assert!(matches!(full, Err(FrameError::Stalled)));
    }
}
