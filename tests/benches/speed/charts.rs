//! A chart for each question.
//!
//! Colours are few and each says one thing, so that a style sheet can turn those of ink and paper around where the
//! reader's screen is dark.

use std::{error::Error, fs, path::Path};

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    floor,
    peers::Peer,
    question::{Case, Question},
    report::{Finding, LIMITER, NOTHING, Report},
};

const INK: RGBColor = RGBColor(0x24, 0x29, 0x2F);
const PAPER: RGBColor = RGBColor(0xFE, 0xFE, 0xFE);
const GRID: RGBColor = RGBColor(0xD8, 0xDE, 0xE4);
/// For the dark: what is ink, paper and grid there. All others are seen on both.
const IN_THE_DARK: &str = r##"<style>@media (prefers-color-scheme: dark) {
[fill="#24292F"] { fill: #E6EDF3 } [stroke="#24292F"] { stroke: #E6EDF3 }
[fill="#FEFEFE"] { fill: #0D1117 }
[fill="#D8DEE4"] { fill: #343B44 } [stroke="#D8DEE4"] { stroke: #343B44 }
}</style>
"##;
/// limiter's.
const OURS: RGBColor = RGBColor(0xE8, 0x59, 0x0C);
/// Everybody else's.
const OTHERS: [RGBColor; 7] = [
    RGBColor(0x8A, 0x93, 0x9C),
    RGBColor(0xB5, 0x89, 0x00),
    RGBColor(0x22, 0x8B, 0xE6),
    RGBColor(0x2F, 0x9E, 0x44),
    RGBColor(0xAE, 0x5F, 0xD0),
    RGBColor(0xE0, 0x4F, 0x86),
    RGBColor(0x0C, 0x9A, 0x9A),
];

const WIDTH: u32 = 960;
const FONT: &str = "sans-serif";
/// The size of what is read beside the heading.
const SMALL: u32 = 16;
/// Room for the names beside lines.
const NAMES: u32 = 230;

type Drawn = Result<(), Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Draws all charts into a directory, which is made.
pub fn draw(report: &Report, directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    for question in report.questions() {
        let path = directory.join(format!("{}.svg", question.slug()));
        fs::write(&path, chart(report, question).unwrap()).unwrap();
    }
}

/// The chart of one question, as text.
fn chart(report: &Report, question: Question) -> Result<String, Box<dyn Error>> {
    let cases = report.cases(question);
    let by_accounts = cases.len() > 1 && cases.iter().all(|case| case.accounts().is_some());
    let mut text = String::new();
    let rows = cases
        .iter()
        .map(|case| 1 + found(report, question, *case).len())
        .sum::<usize>();
    let height = if by_accounts {
        480
    } else {
        100 + 26 * u32::try_from(rows)?
    };
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        area.fill(&PAPER)?;
        let heading = format!("{}, {}", question.title(), question.unit());
        let area = area
            .margin(10, 0, 0, 0)
            .titled(&heading, font(SMALL + 6, INK))?;
        if by_accounts {
            lines(report, question, &area)?;
        } else {
            bars(report, question, &area)?;
        }
        area.present()?;
    }
    // After the first tag, which is the whole.
    let head = text.find('>').ok_or("a chart without a beginning")? + 1;
    text.insert_str(head, &format!("\n{IN_THE_DARK}"));
    Ok(text)
}

/// A line for each contender, by the number of accounts, on scales on which twice as much is always as far.
fn lines(report: &Report, question: Question, area: &Area<'_>) -> Drawn {
    let cases = report.cases(question);
    let xs = || {
        cases
            .iter()
            .filter_map(|case| Some(float(case.accounts()?)))
    };
    let at = |of: &Finding| of.value.median.max(1.0);
    let all = || {
        let findings = cases.iter().flat_map(|case| found(report, question, *case));
        findings.map(at)
    };
    let (least, most) = (all().fold(f64::MAX, f64::min), all().fold(1.0, f64::max));
    let (from, to) = (xs().fold(f64::MAX, f64::min), xs().fold(1.0, f64::max));
    let (left, names) = area.split_horizontally(WIDTH - NAMES);
    let mut chart = ChartBuilder::on(&left)
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d(
            (from..to).log_scale(),
            (least / 1.5..most * 1.5).log_scale(),
        )?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style(font(SMALL, INK))
        .x_desc("accounts")
        .x_label_formatter(&|x| rounded(*x))
        .y_label_formatter(&|y| rounded(*y))
        .draw()?;
    for (row, with) in report.rivals(question).into_iter().enumerate() {
        let colour = colour(report, question, with);
        let points = cases.iter().filter_map(|case| {
            let found = report.find(question, *case, with)?;
            Some((float(case.accounts()?), found))
        });
        let points: Vec<(f64, &Finding)> = points.collect();
        let line = points.iter().map(|(x, found)| (*x, at(found)));
        chart.draw_series(LineSeries::new(line.clone(), colour.stroke_width(2)))?;
        chart.draw_series(line.map(|point| Circle::new(point, 4, colour.filled())))?;
        chart.draw_series(points.iter().map(|(x, found)| {
            let ends = [found.value.low, found.value.high].map(|y| (*x, y.max(least / 1.5)));
            PathElement::new(ends.to_vec(), colour.stroke_width(2))
        }))?;
        let y = 24 + 26 * i32::try_from(row)?;
        names.draw(&Rectangle::new([(4, y - 6), (16, y + 6)], colour.filled()))?;
        let style = font(SMALL, INK).pos(Pos::new(HPos::Left, VPos::Center));
        names.draw(&Text::new(with, (24, y), style))?;
    }
    Ok(())
}

/// A bar for each figure, by case and by contender, with its number behind it.
fn bars(report: &Report, question: Question, area: &Area<'_>) -> Drawn {
    /// Where bars begin and, at the longest, end.
    const FROM: i32 = 310;
    const TO: i32 = 740;
    let text = |right: bool| {
        let side = if right { HPos::Right } else { HPos::Left };
        font(SMALL, INK).pos(Pos::new(side, VPos::Center))
    };
    let cases = report.cases(question);
    let all = cases.iter().flat_map(|case| found(report, question, *case));
    let most = all
        .map(|it| it.value.high)
        .fold(f64::MIN_POSITIVE, f64::max);
    let place = |figure: f64| FROM + pixels(f64::from(TO - FROM) * (figure / most).max(0.0));
    let mut y = 24;
    for case in cases {
        area.draw(&Text::new(case.to_string(), (24, y), text(false)))?;
        y += 26;
        for one in found(report, question, case) {
            let colour = colour(report, question, one.with);
            area.draw(&Text::new(one.with, (FROM - 10, y), text(true)))?;
            let end = place(one.value.median);
            area.draw(&Rectangle::new(
                [(FROM, y - 9), (end.max(FROM + 1), y + 9)],
                colour.filled(),
            ))?;
            let ends = [one.value.low, one.value.high].map(|figure| (place(figure), y));
            area.draw(&PathElement::new(ends.to_vec(), INK.stroke_width(2)))?;
            let digits = question.digits();
            let number = format!("{:.digits$}", one.value.median);
            area.draw(&Text::new(
                number,
                (place(one.value.high).max(end) + 8, y),
                text(false),
            ))?;
            y += 26;
        }
    }
    Ok(())
}

fn found(report: &Report, question: Question, case: Case) -> Vec<&Finding> {
    let rivals = report.rivals(question).into_iter();
    rivals
        .filter_map(|with| report.find(question, case, with))
        .collect()
}

/// Always the same for the same contender; others by their row.
fn colour(report: &Report, question: Question, with: &str) -> RGBColor {
    if with == LIMITER || with.starts_with("connect") {
        return OURS;
    }
    let known = [
        floor::EMPTY,
        floor::COLD,
        Peer::ElementSet.name(),
        Peer::VerdictMap.name(),
        Peer::DynamicSet.name(),
        Peer::Owners.name(),
        NOTHING,
    ];
    let row = || {
        let mut rivals = report.rivals(question).into_iter();
        rivals.position(|it| it == with)
    };
    let at = known.iter().position(|it| *it == with).or_else(row);
    OTHERS[at.unwrap_or(0) % OTHERS.len()]
}

fn font(size: u32, colour: RGBColor) -> TextStyle<'static> {
    (FONT, size).into_font().color(&colour)
}

/// 1,000 as 1k, 1,000,000 as 1M.
fn rounded(number: f64) -> String {
    match number {
        million if million >= 1e6 => format!("{}M", million / 1e6),
        thousand if thousand >= 1e3 => format!("{}k", thousand / 1e3),
        few => format!("{few}"),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it is within the chart")]
fn pixels(length: f64) -> i32 {
    length.round() as i32
}

#[expect(clippy::cast_precision_loss, reason = "there are not that many")]
fn float(count: usize) -> f64 {
    count as f64
}
