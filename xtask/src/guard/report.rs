//! What the guard says.

use std::fmt;

use super::baseline::Baseline;
use super::compare::{Comparison, Kind, Row, Standing};
use super::figures::Figures;

/// A comparison, for people.
pub struct Report<'a> {
    baseline: &'a Baseline,
    found: &'a Figures,
    comparison: &'a Comparison,
}

impl<'a> Report<'a> {
    /// Of this comparison of these.
    pub fn new(baseline: &'a Baseline, found: &'a Figures, comparison: &'a Comparison) -> Self {
        Self {
            baseline,
            found,
            comparison,
        }
    }
}

/// What to do about figures that are not as they should be.
const NEXT: &str = "\
What next: look in the change for what made the program larger or slower (a loop that the verifier
follows more often, code that is inlined twice, another helper call), and mend it. If the change is
worth it, or figures came and went with programs: `cargo xtask guard --bless`, and commit
xtask/src/guard/baseline.json together with it.";

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { rows, knows_kernel } = self.comparison;
        let told: Vec<&Row> = rows
            .iter()
            .filter(|row| row.standing != Standing::Within)
            .collect();
        if !told.is_empty() {
            table(f, &told)?;
            writeln!(f)?;
        }
        if !knows_kernel {
            let known: Vec<&str> = self.baseline.kernels.keys().map(String::as_str).collect();
            writeln!(
                f,
                "The baseline knows nothing of Linux {} (but of {}): only the instructions of the object were\n\
                 compared, not what this kernel makes of them, and no run times.",
                self.found.kernel,
                known.join(", ")
            )?;
        }
        let count = |standing| rows.iter().filter(|row| row.standing == standing).count();
        let (below, faults) = (count(Standing::Below), self.comparison.faults().count());
        if faults == 0 {
            if below > 0 {
                writeln!(
                    f,
                    "{below} figures are better than their baseline by more than the margin: `cargo xtask guard\n\
                     --bless` keeps them there."
                )?;
            }
            return write!(f, "guard: {} figures, all within their margins", rows.len());
        }
        if self.baseline.compiler != self.found.compiler {
            writeln!(
                f,
                "The compiler is another one, and that alone can change sizes: it was {}, and is {}.",
                or_unknown(&self.baseline.compiler),
                or_unknown(&self.found.compiler)
            )?;
        }
        write!(f, "{NEXT}")
    }
}

fn or_unknown(compiler: &str) -> &str {
    if compiler.is_empty() {
        "unknown"
    } else {
        compiler
    }
}

/// The rows, in columns.
fn table(f: &mut fmt::Formatter<'_>, rows: &[&Row]) -> fmt::Result {
    let heads = ["what", "baseline", "found", "change", "margin", ""];
    let mut lines = vec![heads.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| cells(row)));
    let mut widths = [0; 6];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let [a, b, c, d, e, _] = widths;
    for [what, was, is, change, margin, verdict] in lines {
        let line = format!("{what:a$}  {was:>b$}  {is:>c$}  {change:>d$}  {margin:>e$}  {verdict}");
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

fn cells(row: &Row) -> [String; 6] {
    let number = |figure: Option<f64>| match (figure, row.kind) {
        (None, _) => "-".to_owned(),
        (Some(figure), Kind::Count) => format!("{figure:.0}"),
        (Some(figure), Kind::Ratio) => format!("{figure:.3}"),
    };
    let change = match (row.was, row.is) {
        (Some(was), Some(is)) if was > 0.0 => format!("{:+.1} %", (is / was - 1.0) * 100.0),
        _ => "-".to_owned(),
    };
    let verdict = match row.standing {
        Standing::Within => "",
        Standing::Above => "TOO MUCH",
        Standing::Below => "better",
        Standing::New => "NOT IN THE BASELINE",
        Standing::Gone => "NOT FOUND ANY MORE",
    };
    [
        row.what.clone(),
        number(row.was),
        number(row.is),
        change,
        format!("+{} %", row.margin_percent),
        verdict.to_owned(),
    ]
}
