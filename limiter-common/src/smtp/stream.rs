//! The reader of a session in the clear: command lines, texts, chunks; and of the records of a TLS
//! handshake, to see where it ends.
//!
//! The rule: what every server understands the same way is read; where servers differ, the
//! session is estimated from there on. So commands end with CR LF and nothing else, DATA and BDAT
//! have no odd arguments, a text that contains something which some servers take for its end ends
//! the reading. Where over-counting is the only risk, tolerance: any `RCPT` counts.

use super::{Session, session::flags};

/// Values of [`Session::state`].
pub(super) mod state {
    /// In the verb of a command line.
    pub const VERB: u8 = 0;
    /// In the rest of a command line that does not matter.
    pub const REST: u8 = 1;
    /// Behind DATA.
    pub const DATA: u8 = 2;
    /// Behind BDAT, before its number.
    pub const BDAT: u8 = 3;
    /// In the number of a chunk.
    pub const NUMBER: u8 = 4;
    /// Behind the number of a chunk.
    pub const LAST: u8 = 5;
    /// In a text.
    pub const BODY: u8 = 6;
    /// In a chunk.
    pub const CHUNK: u8 = 7;
    /// In the header of a TLS record.
    pub const HEADER: u8 = 8;
    /// In a TLS record.
    pub const RECORD: u8 = 9;
    /// Not read.
    pub const UNREAD: u8 = 10;
}

/// The longest command line, bytes: RFC 5321 has 512, extensions some more, servers 2 to 4 KiB.
const MAX_LINE: u16 = 2048;
/// The longest TLS record: 2^14 bytes and what encryption adds.
const MAX_RECORD: u32 = (1 << 14) + 2048;

const CR: u8 = b'\r';
const LF: u8 = b'\n';

const MAIL: u64 = verb(*b"\0\0\0\0MAIL");
const RCPT: u64 = verb(*b"\0\0\0\0RCPT");
const DATA: u64 = verb(*b"\0\0\0\0DATA");
const BDAT: u64 = verb(*b"\0\0\0\0BDAT");
const RSET: u64 = verb(*b"\0\0\0\0RSET");
const LAST: u64 = verb(*b"\0\0\0\0LAST");
/// No verb: longer than eight letters.
const LONG: u64 = u64::MAX;

/// A text's beginning: the end of the DATA line.
const LINE_END: u64 = verb(*b"\0\0\0\0\0\0\r\n");
const DOT_LINE: u64 = verb(*b"\0\0\0\r\n.\r\n");
const ALMOST_DOT_LINE: u64 = verb(*b"\0\0\0\0\r\n.\r");
const RSET_LINE: u64 = verb(*b"\r\nRSET\r\n");
const QUIT_LINE: u64 = verb(*b"\r\nQUIT\r\n");
const MAIL_BEGIN: u64 = verb(*b"\0\r\nMAIL ");
const FOUR_BYTES: u64 = 0xffff_ffff;
const FIVE_BYTES: u64 = 0xff_ffff_ffff;
const SEVEN_BYTES: u64 = 0xff_ffff_ffff_ffff;
/// Takes the case from the four letters of [`RSET_LINE`].
const UPPER_LINE: u64 = 0xffff_dfdf_dfdf_ffff;
/// Takes the case from the four letters of [`MAIL_BEGIN`].
const UPPER_BEGIN: u64 = 0x00ff_ffdf_dfdf_dfff;

const fn verb(letters: [u8; 8]) -> u64 {
    u64::from_be_bytes(letters)
}

#[inline(always)]
const fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

#[inline(always)]
const fn is_end(byte: u8) -> bool {
    byte == CR || byte == LF
}

#[inline(always)]
const fn upper(byte: u8) -> u8 {
    if byte >= b'a' && byte <= b'z' {
        byte - 32
    } else {
        byte
    }
}

impl Session {
    /// Reads one byte of new payload.
    #[inline(always)]
    pub fn byte(&mut self, byte: u8) {
        if self.state == state::BODY {
            self.body(byte);
        } else if self.state <= state::LAST {
            self.command(byte);
        } else if self.state == state::HEADER {
            self.header(byte);
        } else {
            self.skip(1);
        }
    }

    /// How many of the next bytes need not be looked at: what is left of a chunk or a record.
    #[must_use]
    #[inline(always)]
    pub const fn body_left(&self) -> u32 {
        if self.state == state::CHUNK || self.state == state::RECORD {
            self.left
        } else if self.state == state::UNREAD {
            u32::MAX
        } else {
            0
        }
    }

    /// Passes over `n` bytes, at most [`body_left`](Self::body_left).
    #[inline(always)]
    pub fn skip(&mut self, n: u32) {
        if self.state != state::CHUNK && self.state != state::RECORD {
            return;
        }
        self.left = self.left.saturating_sub(n);
        if self.left == 0 {
            if self.state == state::CHUNK {
                self.next_line();
            } else {
                self.state = state::HEADER;
            }
            self.line = 0;
        }
    }

    /// A byte of a command line.
    #[inline(always)]
    fn command(&mut self, byte: u8) {
        if byte == LF {
            if self.flags & flags::CR == 0 {
                self.distrust();
            } else {
                self.end_of_command();
            }
            return;
        }
        if self.flags & flags::CR != 0 {
            // A lone CR: a line end for some.
            self.distrust();
            return;
        }
        if byte == CR {
            self.flags |= flags::CR;
            if self.state == state::VERB {
                self.end_of_verb();
            }
            return;
        }
        if self.line == 0 && byte == HANDSHAKE_RECORD {
            self.start_tls();
            self.header(byte);
            return;
        }
        self.line = self.line.saturating_add(1);
        if self.line > MAX_LINE || (byte < b' ' && byte != b'\t') || byte == 0x7f {
            self.distrust();
            return;
        }
        let blank = is_blank(byte);
        if self.state == state::REST {
            return;
        }
        if self.state == state::VERB {
            if !blank {
                self.letter(byte);
            } else if self.word == 0 {
                self.flags |= flags::INDENTED;
            } else {
                self.end_of_verb();
            }
        } else if self.state == state::LAST {
            self.last_letter(byte);
        } else if self.state == state::DATA {
            if !blank {
                self.distrust();
            }
        } else {
            self.digit(byte);
        }
    }

    /// A letter of the verb.
    #[inline(always)]
    fn letter(&mut self, byte: u8) {
        let word = self.word;
        if byte > 0x7e || word == DATA || word == BDAT || word == RCPT || word == MAIL {
            // Some servers look at four letters only.
            self.distrust();
        } else if word >> 56 != 0 {
            self.word = LONG;
        } else {
            self.word = (word << 8) | upper(byte) as u64;
        }
    }

    /// A blank or a CR behind the verb.
    #[inline(always)]
    fn end_of_verb(&mut self) {
        let word = self.word;
        self.state = state::REST;
        if word == RCPT {
            self.found_recipients = self.found_recipients.saturating_add(1);
            self.flags |= flags::RECIPIENT;
        } else if word == MAIL || word == RSET {
            self.flags &= !(flags::CHUNKED | flags::RECIPIENT);
        } else if word == DATA {
            self.state = state::DATA;
        } else if word == BDAT {
            self.state = state::BDAT;
            self.left = 0;
            self.flags &= !flags::LAST;
        }
    }

    /// A byte of BDAT's number, or a blank around it.
    #[inline(always)]
    fn digit(&mut self, byte: u8) {
        if is_blank(byte) {
            if self.state == state::NUMBER {
                self.state = state::LAST;
                self.word = 0;
            }
            return;
        }
        let digit = byte.wrapping_sub(b'0');
        // No chunk of a gigabyte, so no overflow either.
        if digit > 9 || self.left > MAX_CHUNK / 10 {
            self.distrust();
            return;
        }
        self.state = state::NUMBER;
        self.left = self.left.wrapping_mul(10).wrapping_add(digit as u32);
    }

    /// A byte behind BDAT's number.
    #[inline(always)]
    fn last_letter(&mut self, byte: u8) {
        if is_blank(byte) {
            if self.word != 0 && self.word != LAST {
                self.distrust();
            }
        } else if self.word >> 24 != 0 {
            self.distrust();
        } else {
            self.word = (self.word << 8) | upper(byte) as u64;
        }
    }

    /// The LF behind a command's CR.
    #[inline(always)]
    fn end_of_command(&mut self) {
        let ended = self.state;
        if ended <= state::REST {
            self.next_line();
            return;
        }
        // The first chunk of a message counts, not the others.
        if ended == state::DATA || self.flags & flags::CHUNKED == 0 {
            self.found_messages = self.found_messages.saturating_add(1);
        }
        let wrong_end =
            ended == state::BDAT || (ended == state::LAST && self.word != 0 && self.word != LAST);
        // No server takes mail for nobody, nor DATA behind chunks: it would read commands.
        let out_of_place = (self.flags & (flags::RECIPIENT | flags::INDENTED) != flags::RECIPIENT)
            || (ended == state::DATA && self.flags & flags::CHUNKED != 0);
        if wrong_end || out_of_place {
            self.distrust();
            return;
        }
        let last = ended == state::LAST && self.word == LAST;
        let left = self.left;
        self.next_line();
        if ended == state::DATA {
            self.flags &= !flags::RECIPIENT;
            self.state = state::BODY;
            self.word = LINE_END;
            return;
        }
        if last {
            self.flags &= !(flags::CHUNKED | flags::RECIPIENT);
        } else {
            self.flags |= flags::CHUNKED;
        }
        if left > 0 {
            self.state = state::CHUNK;
        }
    }

    /// A command line begins.
    #[inline(always)]
    fn next_line(&mut self) {
        self.state = state::VERB;
        self.word = 0;
        self.line = 0;
        self.flags &= !(flags::CR | flags::INDENTED);
    }

    /// A byte of a text.
    #[inline(always)]
    fn body(&mut self, byte: u8) {
        let before = self.word;
        let word = (before << 8) | byte as u64;
        self.word = word;
        self.line = self.line.saturating_add(1);
        if word & FIVE_BYTES == DOT_LINE {
            self.next_line();
            return;
        }
        let almost = before & FOUR_BYTES == ALMOST_DOT_LINE;
        let lone_dot = is_end(byte)
            && (before & 0xff) == b'.' as u64
            && is_end(((before >> 8) & 0xff) as u8)
            && word & FOUR_BYTES != ALMOST_DOT_LINE;
        if almost || lone_dot || byte == 0 {
            // An end for some.
            self.distrust();
            return;
        }
        // The server refused DATA, and the client goes on with commands. If it did not, its text
        // is read as commands until a dot: the estimate watches.
        if self.line == 6 {
            let line = word & UPPER_LINE;
            if line == RSET_LINE || line == QUIT_LINE {
                self.flags |= flags::DOUBT;
                self.next_line();
            }
        } else if self.line == 5 && word & SEVEN_BYTES & UPPER_BEGIN == MAIL_BEGIN {
            self.flags |= flags::DOUBT;
            self.next_line();
            self.line = 5;
            self.state = state::REST;
        }
    }

    /// A client's hello where a command would be.
    #[inline(always)]
    fn start_tls(&mut self) {
        self.next_line();
        self.flags |= flags::INEXACT | flags::HANDSHAKE;
        self.state = state::HEADER;
    }

    /// A byte of the five of a TLS record's header: type, version, length. Mail is sent in
    /// records of the type application data only, and nothing else is until the handshake's own
    /// last message.
    #[inline(always)]
    fn header(&mut self, byte: u8) {
        let at = self.line;
        self.line = at.saturating_add(1);
        if at == 0 {
            if !matches!(byte, CIPHER_RECORD..=HANDSHAKE_RECORD) {
                self.end_handshake();
            }
            self.left = 0;
        } else if at >= 3 {
            self.left = (self.left << 8) | byte as u32;
            if at >= 4 {
                self.line = 0;
                if self.left > MAX_RECORD {
                    self.end_handshake();
                } else if self.left > 0 {
                    self.state = state::RECORD;
                }
            }
        }
    }
}

/// The longest chunk, bytes: larger than any server takes.
const MAX_CHUNK: u32 = 1 << 30;
/// The lowest type of a handshake's TLS records: change of cipher, alert, handshake.
const CIPHER_RECORD: u8 = 0x14;
/// The type of handshake messages.
const HANDSHAKE_RECORD: u8 = 0x16;
