//! The evidence report as one page of HTML: nothing is loaded from elsewhere, everything that
//! comes from outside is escaped, and it can be printed.

use std::fmt::Write as _;

use super::{
    dossier::Dossier,
    dossier_text::{facts, sections},
    status_text::Style,
};

const HEAD: &str = "<!DOCTYPE html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">
<meta name=\"referrer\" content=\"no-referrer\">
";

const STYLE: &str = "<style>
body { font: 15px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; border-bottom: 1px solid #999; }
th { text-align: left; padding: 0 1rem 0 0; vertical-align: top; font-weight: normal; color: #555; }
li { margin: .3rem 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.none { color: #777; }
.remarks { border: 1px solid #999; min-height: 12rem; padding: .5rem; }
@media print { body { margin: 0; max-width: none; } li { break-inside: avoid; } h2 { break-after: avoid; } }
</style>
";

/// The report as a page. The frame at its end is for a person's remarks: it can be typed into
/// before the page is printed or saved.
#[must_use]
pub fn html(dossier: &Dossier, style: &Style) -> String {
    let mut out = HEAD.to_owned();
    let title = format!(
        "Evidence report: {} on {}",
        escaped(&dossier.tenant),
        escaped(&dossier.node)
    );
    let _ = write!(
        out,
        "<title>{title}</title>\n{STYLE}</head>\n<body>\n<h1>{title}</h1>\n<table>\n"
    );
    for (name, value) in facts(dossier, style) {
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{name}</th><td>{}</td></tr>",
            escaped(&value)
        );
    }
    out.push_str("</table>\n");
    for (title, lines) in sections(dossier, style) {
        let _ = writeln!(out, "<h2>{title}</h2>");
        if lines.is_empty() {
            out.push_str("<p class=\"none\">none</p>\n");
            continue;
        }
        out.push_str("<ul>\n");
        for line in lines {
            let _ = writeln!(out, "<li>{}</li>", escaped(&line));
        }
        out.push_str("</ul>\n");
    }
    out.push_str(
        "<h2>Remarks</h2>\n<p class=\"none\">What no machine on the node can see: consent records, \
         what the customer said and did.</p>\n<div class=\"remarks\" contenteditable=\"true\" \
         role=\"textbox\" aria-label=\"Remarks\"></div>\n</body>\n</html>\n",
    );
    out
}

/// `text` as it may stand in HTML: no markup, nothing invisible or reordering.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, end) = match line.strip_suffix('\n') {
            Some(line) => (line, "\n"),
            None => (line, ""),
        };
        for ch in super::text::printable(line).chars() {
            match ch {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                '\'' => out.push_str("&#39;"),
                ch => out.push(ch),
            }
        }
        out.push_str(end);
    }
    out
}
