//! How much of a report is read at most.

/// Bounds of a report. What goes beyond is refused with the reason, and kept for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The whole report, bytes.
    pub bytes: usize,
    /// How deep multiparts and messages may stand inside each other.
    pub depth: usize,
    /// How many parts it may have, all together; those of the message complained about are not
    /// looked at.
    pub parts: usize,
    /// The header block of the report and of each of its parts, bytes.
    pub header_bytes: usize,
    /// Fields of such a block.
    pub header_fields: usize,
    /// How much is kept of the headers complained about, bytes: more is cut off, not refused,
    /// because its sender chose how long they are.
    pub original_header_bytes: usize,
    /// How many fields of them are read.
    pub original_header_fields: usize,
    /// How many addresses, domains and URIs are kept of each kind.
    pub listed: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 25 << 20,
            depth: 8,
            parts: 256,
            header_bytes: 256 << 10,
            header_fields: 1_000,
            original_header_bytes: 64 << 10,
            original_header_fields: 500,
            listed: 100,
        }
    }
}
