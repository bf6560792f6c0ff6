//! YAML text → documents, with places, aliases and merge keys resolved, and every size bounded.
//!
//! A document that is not YAML is reported and skipped; reading goes on at the next `---`, so that
//! one pass finds the faults of all documents.

use std::{borrow::Cow, collections::HashMap};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use super::{
    node::{Mark, Node, Value},
    yaml_frame::{Frame, path_of},
};

/// How deep lists and maps can be nested. The configuration needs six levels.
const MAX_NESTING: usize = 32;
/// How many values the anchors and aliases of one file, or part of a large one, can copy.
const MAX_COPIED: usize = 1_000_000;

/// A fault of the YAML itself.
#[derive(Debug)]
pub(super) struct YamlFault {
    /// Where.
    pub mark: Mark,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub allowed: String,
}

impl YamlFault {
    /// A fault at `mark`.
    pub fn new(mark: Mark, problem: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self {
            mark,
            problem: problem.into(),
            allowed: allowed.into(),
        }
    }
}

/// The documents of a text, one after the other.
pub(super) struct Documents<'t> {
    text: &'t str,
    /// Where the part that `parser` reads starts: bytes, and lines before it.
    start: usize,
    lines_before: usize,
    parser: Parser<'t, StrInput<'t>>,
    finished: bool,
    /// Values copied so far.
    copied: usize,
    /// Whether a part of the text could not be read.
    broken: bool,
    faults: Vec<YamlFault>,
}

/// The document in the making.
#[derive(Default)]
struct Builder<'t> {
    frames: Vec<Frame<'t>>,
    root: Option<Node<'t>>,
    /// Finished nodes by anchor; the number is the parser's.
    anchors: HashMap<usize, Node<'t>>,
}

/// Why a document is given up.
enum Stop {
    /// Nothing more of this document; the next one may be fine.
    Document(YamlFault),
    /// Nothing more of this file.
    File(YamlFault),
}

impl<'t> Documents<'t> {
    /// The documents of `text`.
    pub fn new(text: &'t str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self::after(0, text)
    }

    /// The documents of `text`, before which there are so many lines in its file.
    pub fn after(lines_before: usize, text: &'t str) -> Self {
        Self {
            text,
            start: 0,
            lines_before,
            parser: Parser::new_from_str(text),
            finished: false,
            copied: 0,
            broken: false,
            faults: Vec::new(),
        }
    }

    /// The next document, or `None` at the end.
    pub fn next_document(&mut self) -> Option<Node<'t>> {
        let mut builder = Builder::default();
        while !self.finished {
            let step = match self.parser.next_event() {
                None => break,
                Some(Ok((Event::StreamEnd, _))) => break,
                Some(Ok((Event::DocumentEnd, span))) => {
                    let mark = self.mark(span);
                    return Some(builder.root.unwrap_or_else(|| Node::null(mark)));
                }
                Some(Ok((event, span))) => self.take(&mut builder, event, span),
                Some(Err(error)) => Err(Stop::Document(YamlFault::new(
                    self.mark(Span::empty(*error.marker())),
                    format!("not YAML: {}", error.info()),
                    "correct the YAML near here; nothing more of this document was read",
                ))),
            };
            match step {
                Ok(()) => {}
                Err(Stop::Document(fault)) => {
                    self.resume_after(fault.mark.line);
                    self.give_up(fault);
                    builder = Builder::default();
                }
                Err(Stop::File(fault)) => {
                    self.finished = true;
                    self.give_up(fault);
                }
            }
        }
        self.finished = true;
        None
    }

    /// The faults found since the last call.
    pub fn take_faults(&mut self) -> Vec<YamlFault> {
        std::mem::take(&mut self.faults)
    }

    /// Whether a part of the text could not be read.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    fn give_up(&mut self, fault: YamlFault) {
        self.broken = true;
        self.faults.push(fault);
    }

    fn mark(&self, span: Span) -> Mark {
        Mark {
            line: self.lines_before + span.start.line().max(1),
            column: span.start.col() + 1,
        }
    }

    fn take(
        &mut self,
        builder: &mut Builder<'t>,
        event: Event<'t>,
        span: Span,
    ) -> Result<(), Stop> {
        let mark = self.mark(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let mut plain = style == ScalarStyle::Plain;
                if let Some(tag) = &tag {
                    if is_text(tag) {
                        plain = false;
                    } else {
                        self.refuse_tag(builder, mark, tag);
                    }
                }
                let node = Node {
                    mark: builder.place_of(&text, plain, mark),
                    value: Value::Text { text, plain },
                };
                self.finish(builder, node, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_container(builder, mark, tag.as_ref(), "seq")?;
                builder.frames.push(Frame::list(mark, anchor));
                Ok(())
            }
            Event::MappingStart(anchor, tag) => {
                self.check_container(builder, mark, tag.as_ref(), "map")?;
                builder.frames.push(Frame::map(mark, anchor));
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(frame) = builder.frames.pop() else {
                    return Ok(());
                };
                let (node, anchor) = frame.close(&builder.frames, &mut self.faults);
                self.finish(builder, node, anchor)
            }
            Event::Alias(anchor) => {
                let Some(target) = builder.anchors.get(&anchor) else {
                    return Err(Stop::Document(YamlFault::new(
                        mark,
                        format!(
                            "{}: the alias names an anchor that it is itself a part of",
                            path_of(&builder.frames)
                        ),
                        "an alias repeats what was written before it",
                    )));
                };
                let (size, depth) = target.extent();
                self.charge(mark, size)?;
                if builder.frames.len() + depth > MAX_NESTING {
                    return Err(too_deep(mark));
                }
                let node = target.clone();
                builder.attach(node, &mut self.faults);
                Ok(())
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    /// Puts a finished node where it belongs.
    fn finish(
        &mut self,
        builder: &mut Builder<'t>,
        node: Node<'t>,
        anchor: usize,
    ) -> Result<(), Stop> {
        if anchor != 0 {
            self.charge(node.mark, node.extent().0)?;
            builder.anchors.insert(anchor, node.clone());
        }
        builder.attach(node, &mut self.faults);
        Ok(())
    }

    fn charge(&mut self, mark: Mark, size: usize) -> Result<(), Stop> {
        self.copied = self.copied.saturating_add(size);
        if self.copied > MAX_COPIED {
            return Err(Stop::File(YamlFault::new(
                mark,
                format!("the aliases of this file expand to more than {MAX_COPIED} values"),
                "write the values out, or use `plans`; nothing more of this file was read",
            )));
        }
        Ok(())
    }

    fn check_container(
        &mut self,
        builder: &Builder<'t>,
        mark: Mark,
        tag: Option<&Cow<'t, Tag>>,
        expected: &str,
    ) -> Result<(), Stop> {
        if builder.frames.len() >= MAX_NESTING {
            return Err(too_deep(mark));
        }
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && tag.suffix == expected)
        {
            self.refuse_tag(builder, mark, tag);
        }
        Ok(())
    }

    fn refuse_tag(&mut self, builder: &Builder<'t>, mark: Mark, tag: &Tag) {
        let path = path_of(&builder.frames);
        let tag = tag.to_string();
        self.faults.push(YamlFault::new(
            mark,
            format!("{path}: the tag {tag:?} means nothing here"),
            "remove it",
        ));
    }

    /// Goes on with the first document that starts at `line` or later, but after the one that is
    /// being read.
    fn resume_after(&mut self, line: usize) {
        let mut lines = 0_usize;
        let mut at = self.start;
        loop {
            let Some(length) = line_length(&self.text.as_bytes()[at..]) else {
                self.finished = true;
                return;
            };
            at += length;
            lines += 1;
            if self.lines_before + lines + 1 >= line && starts_document(&self.text.as_bytes()[at..])
            {
                break;
            }
        }
        self.start = at;
        self.lines_before += lines;
        self.parser = Parser::new_from_str(&self.text[at..]);
    }
}

impl<'t> Builder<'t> {
    /// An absent value stands at its key, not at whatever comes next.
    fn place_of(&self, text: &str, plain: bool, mark: Mark) -> Mark {
        match self.frames.last().and_then(Frame::pending_mark) {
            Some(key_mark) if plain && text.is_empty() => key_mark,
            _ => mark,
        }
    }

    fn attach(&mut self, node: Node<'t>, faults: &mut Vec<YamlFault>) {
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(node);
            return;
        };
        if let Err(mark) = frame.push(node) {
            let path = path_of(&self.frames);
            faults.push(YamlFault::new(
                mark,
                format!("{path}: a list or a map cannot be a key"),
                "write the key as plain text",
            ));
        }
    }
}

fn is_text(tag: &Tag) -> bool {
    (tag.is_yaml_core_schema() && tag.suffix == "str")
        || (tag.handle.is_empty() && tag.suffix == "!")
}

fn too_deep(mark: Mark) -> Stop {
    Stop::Document(YamlFault::new(
        mark,
        format!("lists and maps are nested deeper than {MAX_NESTING} levels"),
        "the configuration needs six; nothing more of this document was read",
    ))
}

/// Cuts `text` into parts of whole documents, of about `size` bytes, each with the number of lines
/// before it. `---` at the start of a line is the start of a document wherever it stands.
pub(super) fn split(text: &str, size: usize) -> Vec<(usize, &str)> {
    // A directive belongs to the document behind it. They are rare enough not to be cut.
    let whole = text.contains("\n%") || text.contains('\r') || text.starts_with('%');
    let mut parts = Vec::new();
    let (mut rest, mut lines) = (text, 0_usize);
    while !whole && rest.len() > size {
        let bytes = rest.as_bytes();
        let cut = bytes
            .iter()
            .enumerate()
            .skip(size)
            .filter(|(_, byte)| **byte == b'\n')
            .map(|(at, _)| at + 1)
            .find(|at| starts_document(&bytes[*at..]));
        let Some(cut) = cut else {
            break;
        };
        let (part, behind) = rest.split_at(cut);
        parts.push((lines, part));
        lines += part.bytes().filter(|byte| *byte == b'\n').count();
        rest = behind;
    }
    parts.push((lines, rest));
    parts
}

/// The length of the first line with its end, or `None` where the text ends with it.
fn line_length(bytes: &[u8]) -> Option<usize> {
    let end = bytes
        .iter()
        .position(|byte| matches!(byte, b'\n' | b'\r'))?;
    let crlf = bytes[end] == b'\r' && bytes.get(end + 1) == Some(&b'\n');
    Some(end + 1 + usize::from(crlf))
}

fn starts_document(text: &[u8]) -> bool {
    text.strip_prefix(b"---")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b' ' | b'\t' | b'\n' | b'\r')))
}
