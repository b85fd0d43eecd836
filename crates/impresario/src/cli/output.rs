//! What commands print: in come cells and texts of a server, out go lines that fit the terminal and do nothing to it.
//!
//! Data goes to stdout, remarks and progress to stderr.

use std::{
    fmt::Write as _,
    io::{self, BufRead, IsTerminal as _, Write},
};

use anyhow::bail;
use clap::Args;
use console::{Style, Term, measure_text_width, truncate_str};
use serde::Serialize;

use super::say;
use crate::config;

/// What stands between two columns.
const GAP: &str = "  ";
/// No column is cut to fewer places.
const NARROWEST: usize = 8;
/// What a value that is not there looks like.
pub(super) const NONE: &str = "-";

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// The flag of every command that prints data.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct OutputFlags {
    /// Print the server's answer as JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl OutputFlags {
    pub(super) fn format(self) -> Format {
        if self.json { Format::Json } else { Format::Table }
    }
}

/// Writes a value to stdout, as one document that people can read, too.
///
/// # Errors
/// Where nobody reads it any more.
pub(super) fn print_json(value: &impl Serialize) -> io::Result<()> {
    say(&serde_json::to_string_pretty(value)?)
}

/// Writes lines to stdout.
///
/// # Errors
/// Where nobody reads them any more.
pub(super) fn print(text: &str) -> io::Result<()> {
    say(text.trim_end_matches('\n'))
}

/// Writes a line for people to stderr.
pub(super) fn remark(text: &str) {
    // Whoever closed stderr does not want to know.
    let _closed = writeln!(io::stderr(), "impresario: {text}");
}

/// Whether a command ended because what it was piped into did not want more: `… | head -1` is no error to speak of.
pub(super) fn nobody_reads(error: &anyhow::Error) -> bool {
    let mut causes = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// A text that does nothing to a terminal.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Those that turn the direction of writing can make a line look like another one.
        if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            let _ = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Several lines that do nothing to a terminal; only their breaks and tabs stay.
pub(super) fn printable_lines(text: &str) -> String {
    let line = |line: &str| line.split('\t').map(printable).collect::<Vec<_>>().join("    ");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// What stdout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Screen {
    /// How many places a line has; none where it is no terminal.
    pub(super) width: Option<usize>,
    /// Whether words may have a colour.
    pub(super) colour: bool,
}

impl Screen {
    /// Stdout as it is. No colour with `NO_COLOR`, nor on a terminal that calls itself dumb.
    pub(super) fn of_stdout() -> Self {
        if !io::stdout().is_terminal() {
            return Self::plain();
        }
        let dumb = config::variable("TERM").is_some_and(|term| term == "dumb");
        Self {
            width: Term::stdout().size_checked().map(|(_, columns)| columns.into()),
            colour: !dumb && config::variable("NO_COLOR").is_none(),
        }
    }

    /// A file or a pipe.
    pub(super) fn plain() -> Self {
        Self {
            width: None,
            colour: false,
        }
    }
}

/// A cell of a table.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// Any text of a server. Line breaks become spaces.
    pub(super) fn new(text: impl AsRef<str>) -> Self {
        let words: Vec<&str> = text.as_ref().split(['\r', '\n']).collect();
        Self {
            text: printable(words.join(" ").trim()),
            style: Style::new(),
        }
    }

    /// A text, or that there is none.
    pub(super) fn optional(text: Option<impl AsRef<str>>) -> Self {
        text.map_or_else(|| Self::new(NONE), Self::new)
    }

    /// Where something stands, in the colour that goes with it.
    pub(super) fn status(text: impl AsRef<str>) -> Self {
        let style = style_of(text.as_ref());
        Self {
            style,
            ..Self::new(text)
        }
    }

    fn width(&self) -> usize {
        measure_text_width(&self.text)
    }

    /// The whole of it, in its colour where there are colours.
    pub(super) fn shown_for(&self, screen: Screen) -> String {
        self.shown(None, screen.colour)
    }

    fn shown(&self, width: Option<usize>, colour: bool) -> String {
        let text = match width {
            Some(width) => truncate_str(&self.text, width, "…"),
            None => (&*self.text).into(),
        };
        if colour {
            self.style.clone().force_styling(true).apply_to(text).to_string()
        } else {
            text.into_owned()
        }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text)
    }
}

/// The colour of a status, of a state or of an outcome.
fn style_of(status: &str) -> Style {
    match status {
        "completed" | "active" | "ready" | "delivered" | "fired" => Style::new().green(),
        "failed" | "failing" | "rejected" | "missed" | "error" | "set_aside" => Style::new().red(),
        "queued" | "starting_browser" | "running" | "building" | "pending" | "warn" | "skipped_overlap" => {
            Style::new().yellow()
        }
        "cancelled" | "disabled" | "finished" | "inactive" => Style::new().dim(),
        _ => Style::new(),
    }
}

/// Rows under a header, without lines between them.
#[derive(Debug)]
pub(super) struct Table {
    header: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table of these columns; by custom in capitals.
    pub(super) fn new(header: &[&str]) -> Self {
        Self {
            header: header.iter().map(Cell::new).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, which has a cell for each column.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// For stdout as it is.
    pub(super) fn for_stdout(&self) -> String {
        self.render(Screen::of_stdout())
    }

    /// The lines. On a terminal none is longer than it is wide, unless it is very narrow.
    pub(super) fn render(&self, screen: Screen) -> String {
        let all = || std::iter::once(&self.header).chain(&self.rows);
        let width = |column: usize| {
            all()
                .filter_map(|row| row.get(column).map(Cell::width))
                .max()
                .unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        if let Some(most) = screen.width {
            shrink(&mut widths, most);
        }
        let mut out = String::new();
        for row in all() {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let cut = screen.width.map(|_| *width);
                let fill = width.saturating_sub(cell.width());
                let _ = write!(line, "{}{:fill$}{GAP}", cell.shown(cut, screen.colour), "");
            }
            out += line.trim_end();
            out.push('\n');
        }
        out
    }
}

/// Takes places from the widest columns until a line fits.
fn shrink(widths: &mut [usize], most: usize) {
    let gaps = GAP.len() * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > most {
        match widths.iter_mut().max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => return,
        }
    }
}

/// One thing: a line for each of its fields.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    lines: Vec<(String, Cell)>,
}

impl Sheet {
    /// Adds a field.
    pub(super) fn line(&mut self, name: &str, value: impl Into<Cell>) {
        self.lines.push((name.to_owned(), value.into()));
    }

    /// Adds a field where there is a value.
    pub(super) fn maybe(&mut self, name: &str, value: Option<impl Into<Cell>>) {
        if let Some(value) = value {
            self.line(name, value);
        }
    }

    /// For stdout as it is.
    pub(super) fn for_stdout(&self) -> String {
        self.render(Screen::of_stdout())
    }

    /// The lines. None is cut: a sheet is there to show the whole.
    pub(super) fn render(&self, screen: Screen) -> String {
        let widest = self.lines.iter().map(|(name, _)| measure_text_width(name)).max();
        let widest = widest.unwrap_or(0);
        let mut out = String::new();
        for (name, cell) in &self.lines {
            let _ = writeln!(out, "{name:widest$}{GAP}{}", cell.shown(None, screen.colour));
        }
        out
    }
}

/// Goes on where somebody says yes, or `yes` says so without being asked.
///
/// # Errors
/// Where the answer is not yes, or there is no terminal to ask on.
pub(super) fn confirm(question: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        bail!("nothing was changed: there is no terminal to ask on; --yes goes on without asking");
    }
    if !confirmed(question, &mut stdin.lock(), &mut io::stderr())? {
        bail!("nothing was changed");
    }
    Ok(())
}

/// Asks; anything but yes is no.
fn confirmed(question: &str, answers: &mut impl BufRead, screen: &mut impl Write) -> io::Result<bool> {
    write!(screen, "{question} [y/N] ")?;
    screen.flush()?;
    let mut answer = String::new();
    answers.read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for (answer, expected) in [
            ("y\n", true),
            ("Yes\n", true),
            (" y \n", true),
            ("\n", false),
            ("", false),
            ("n\n", false),
            ("yess\n", false),
            ("no\ny\n", false),
        ] {
            let mut screen = Vec::new();
            let outcome = confirmed("Apply this?", &mut answer.as_bytes(), &mut screen).unwrap();
            assert_eq!(outcome, expected, "{answer:?}");
            assert_eq!(screen, b"Apply this? [y/N] ");
        }
    }

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "STATE", "ERROR"]);
        table.row([
            Cell::new("a"),
            Cell::status("completed"),
            Cell::optional(None::<&str>),
        ]);
        table.row([
            Cell::new("日本"),
            Cell::status("failed"),
            Cell::new("line one\nline two, which is long"),
        ]);
        table
    }

    #[test]
    fn columns_stand_under_each_other_and_nothing_is_cut_in_a_pipe() {
        assert_eq!(
            table().render(Screen::plain()),
            "NAME  STATE      ERROR\n\
             a     completed  -\n\
             日本  failed     line one line two, which is long\n"
        );
    }

    #[test]
    fn on_a_terminal_long_cells_are_cut() {
        let screen = Screen {
            width: Some(30),
            colour: false,
        };
        let text = table().render(screen);
        assert_eq!(
            text,
            "NAME  STATE      ERROR\n\
             a     completed  -\n\
             日本  failed     line one lin…\n"
        );
        for width in 0..200 {
            let text = table().render(Screen {
                width: Some(width),
                colour: false,
            });
            let longest = text.lines().map(measure_text_width).max().unwrap();
            assert!(longest <= width.max(24), "{width}: {text}");
        }
    }

    #[test]
    fn only_a_status_has_a_colour() {
        let screen = Screen {
            width: None,
            colour: true,
        };
        let text = table().render(screen);
        assert_eq!(text.matches("\u{1b}[0m").count(), 2, "{text:?}");
        assert!(text.contains("\u{1b}[32mcompleted\u{1b}[0m  -\n"), "{text:?}");
        assert_eq!(console::strip_ansi_codes(&text), table().render(Screen::plain()));
    }

    #[test]
    fn nothing_of_a_server_moves_the_cursor() {
        let nasty = "\u{1b}[2J\u{9b}2J\u{202e}\r\n\u{7}\u{8}x";
        let mut table = Table::new(&["A"]);
        table.row([Cell::status(nasty)]);
        let mut sheet = Sheet::default();
        sheet.line("a", nasty);
        for text in [
            table.render(Screen::plain()),
            sheet.render(Screen::plain()),
            printable_lines(nasty),
        ] {
            let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.contains(bad) && text.contains('x'), "{text:?}");
        }
    }

    #[test]
    fn a_sheet_shows_the_whole() {
        let mut sheet = Sheet::default();
        sheet.line("name", "a");
        sheet.maybe("none", None::<&str>);
        sheet.line("cron_expr", "@daily");
        assert_eq!(sheet.render(Screen::plain()), "name       a\ncron_expr  @daily\n");
    }
}
