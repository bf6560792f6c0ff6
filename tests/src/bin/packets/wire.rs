//! The link as the stack in user space sees it: what it sends is disguised on the way.

use std::{cell::RefCell, io};

use limiter_tests::{
    disguise::{Disguise, carries_tcp, has_payload},
    offload::{HEADER, Offload},
    packet_socket::FRAME_ROOM,
};
use smoltcp::{
    phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken},
    time::Instant,
};

use crate::link::Open;

/// What happened on sending.
#[derive(Debug, Default)]
pub struct Sent {
    /// Frames sent.
    pub frames: u64,
    /// Whether the kernel said EPERM.
    pub not_permitted: bool,
    /// What else it said, last.
    pub errno: Option<i32>,
}

/// The link, and what is done to what goes through it.
pub struct Wire {
    link: Open,
    /// What data goes through, if not through the same.
    second: Option<Open>,
    disguises: Vec<Disguise>,
    /// Whether frames have a header in front, and what it asks for where there is TCP.
    offload: Option<Offload>,
    /// Whether the session has begun for which all that is.
    in_session: bool,
    /// What happened on sending.
    pub sent: RefCell<Sent>,
}

impl Wire {
    pub fn new(link: Open, second: Option<Open>, offload: Option<Offload>) -> Self {
        Self {
            link,
            second,
            disguises: Vec::new(),
            offload,
            in_session: false,
            sent: RefCell::default(),
        }
    }

    /// From now on this is done to what is sent, and what is sent is counted anew.
    pub fn put_on(&mut self, disguises: &[Disguise]) {
        self.disguises = disguises.to_vec();
        self.in_session = true;
        self.sent = RefCell::default();
    }

    /// The link itself.
    pub fn link(&self) -> &Open {
        &self.link
    }

    fn transmit_frame(&self, frame: Vec<u8>) {
        let link = match &self.second {
            Some(second) if has_payload(&frame) => second,
            _ => &self.link,
        };
        let mut frames = vec![frame];
        if carries_tcp(&frames[0]) {
            for disguise in &self.disguises {
                let next = frames.iter().flat_map(|frame| disguise.apply(frame));
                frames = next.collect();
            }
        }
        let mut sent = self.sent.borrow_mut();
        for frame in frames {
            let frame = match self.offload {
                Some(offload) if self.in_session => offload.apply(&frame),
                Some(_) => [&[0; HEADER], &frame[..]].concat(),
                None => frame,
            };
            match link.send(&frame) {
                Ok(()) => sent.frames += 1,
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                    sent.not_permitted = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => sent.errno = error.raw_os_error().or(Some(0)),
            }
        }
    }
}

/// A frame that came.
pub struct Came(Vec<u8>);

/// Leave to send a frame.
pub struct Leave<'w>(&'w Wire);

impl Device for Wire {
    type RxToken<'a> = Came;
    type TxToken<'a> = Leave<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Came, Leave<'_>)> {
        let mut buffer = vec![0; FRAME_ROOM];
        let mut links = [Some(&self.link), self.second.as_ref()]
            .into_iter()
            .flatten();
        let length =
            links.find_map(|link| link.receive(&mut buffer).expect("the link can be read"))?;
        buffer.truncate(length);
        if self.offload.is_some() {
            buffer.drain(..HEADER.min(length));
        }
        Some((Came(buffer), Leave(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leave<'_>> {
        Some(Leave(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        // Less than the interface's, so that there is room for what disguises add.
        capabilities.max_transmission_unit = 1314;
        // Between interfaces of one machine the kernel leaves checksums for later.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}

impl RxToken for Came {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Leave<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.transmit_frame(frame);
        result
    }
}
