//! A report as blocks, written as Markdown with figures beside it and as one HTML page that needs nothing else.

use std::fmt::Write as _;

use super::plot::{Chart, escape};

/// Look of the page; figures bring their own.
const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--quiet:#59626e;--paper:#fff;--line:#d7dce2;--band:#f4f6f8}\
@media(prefers-color-scheme:dark){:root{--ink:#e8ebef;--quiet:#a3acb8;--paper:#15181c;--line:#3a414b;--band:#1d2126}}\
body{margin:0 auto;padding:2rem 1.25rem 4rem;max-width:72rem;background:var(--paper);color:var(--ink);\
font:16px/1.5 system-ui,sans-serif}\
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .6rem}h2{font-size:1.25rem;margin:2.4rem 0 .6rem}\
p{max-width:46rem;margin:.6rem 0}\
figure{margin:1.2rem 0}figcaption,caption{color:var(--quiet);font-size:.9rem;text-align:left;padding:.3rem 0}\
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(26rem,100%),1fr));gap:0 1.5rem}\
svg{width:100%;height:auto;display:block}.scroll{overflow-x:auto;margin:1rem 0}\
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}\
th,td{padding:.28rem .55rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}\
th:first-child,td:first-child{text-align:left;padding-left:.2rem;white-space:normal}\
thead th{border-bottom:2px solid var(--line)}\
tbody tr:nth-child(even){background:var(--band)}";

/// Part of a report.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// Begins a section.
    Heading(String),
    /// Plain text.
    Paragraph(String),
    /// Rows of cells; the first of each row is its name.
    Table {
        /// What the cells are.
        caption: String,
        /// Names of the columns.
        header: Vec<String>,
        /// As many cells as the header has, each.
        rows: Vec<Vec<String>>,
    },
    /// Charts side by side, each with the name of its file.
    Figures(Vec<(String, Chart)>),
}

/// A report.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Title.
    pub title: String,
    /// In reading order.
    pub blocks: Vec<Block>,
}

impl Page {
    /// As Markdown; figures are files beside it, see [`figures`](Self::figures).
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n", self.title);
        for block in &self.blocks {
            text.push('\n');
            match block {
                Block::Heading(heading) => text += &format!("## {heading}\n"),
                Block::Paragraph(paragraph) => text += &format!("{paragraph}\n"),
                Block::Table { caption, header, rows } => {
                    let row = |cells: &[String]| {
                        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
                        format!("| {} |\n", cells.join(" | "))
                    };
                    let rule = format!("| --- |{}\n", " ---: |".repeat(header.len() - 1));
                    let rows: String = rows.iter().map(|cells| row(cells)).collect();
                    text += &format!("{caption}:\n\n{}{rule}{rows}", row(header));
                }
                Block::Figures(figures) => {
                    for (name, chart) in figures {
                        let _ = writeln!(text, "![{}]({name}.svg)", chart.description);
                    }
                }
            }
        }
        text
    }

    /// As one HTML page without scripts and without references to other files.
    pub fn html(&self) -> String {
        let title = escape(&self.title);
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
             <style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        );
        for block in &self.blocks {
            match block {
                Block::Heading(heading) => html += &format!("<h2>{}</h2>\n", escape(heading)),
                Block::Paragraph(paragraph) => html += &format!("<p>{}</p>\n", escape(paragraph)),
                Block::Table { caption, header, rows } => {
                    let row = |tag: &str, cells: &[String]| {
                        let cells: Vec<String> = cells.iter().map(|cell| escape(cell)).collect();
                        format!("<tr><{tag}>{}</{tag}></tr>\n", cells.join(&format!("</{tag}><{tag}>")))
                    };
                    let rows: Vec<String> = rows.iter().map(|cells| row("td", cells)).collect();
                    let (caption, header, rows) = (escape(caption), row("th", header), rows.concat());
                    let _ = write!(
                        html,
                        "<div class=\"scroll\"><table>\n<caption>{caption}</caption>\n<thead>{header}</thead>\n\
                         <tbody>\n{rows}</tbody>\n</table></div>\n"
                    );
                }
                Block::Figures(figures) => {
                    html += "<div class=\"figures\">\n";
                    for (_, chart) in figures {
                        let (svg, caption) = (chart.svg(), escape(&chart.description));
                        let _ = writeln!(html, "<figure>\n{svg}<figcaption>{caption}</figcaption>\n</figure>");
                    }
                    html += "</div>\n";
                }
            }
        }
        html += "</body>\n</html>\n";
        html
    }

    /// Every figure with the name of its file, without extension.
    pub fn figures(&self) -> impl Iterator<Item = &(String, Chart)> {
        let figures = self.blocks.iter().filter_map(|block| match block {
            Block::Figures(figures) => Some(figures),
            _ => None,
        });
        figures.flatten()
    }
}
