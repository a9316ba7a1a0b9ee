//! Charts as SVG: drawn by hand, as three kinds of marks are all that is needed.
//!
//! A chart carries its own colours for light and dark, so it reads the same inside a page and as a file. Series differ
//! in colour (Okabe and Ito's palette), shape and dash, so none depends on colour alone.

use std::fmt::Write as _;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 350.0;
/// Room for labels.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 16.0;
const BOTTOM: f64 = 52.0;
/// Names side by side in the legend, and the height of a row of them.
const LEGEND_COLUMNS: usize = 3;
const LEGEND_ROW: f64 = 17.0;
/// Series that can be told apart.
const NUM_STYLES: usize = 8;
const DASHES: [&str; NUM_STYLES] = ["none", "8 3", "10 3 2 3", "2 3", "none", "8 3", "10 3 2 3", "2 3"];

const STYLE: &str = "\
.chart{--ink:#1b1f24;--faint:#d7dce2;--s0:#0072b2;--s1:#d55e00;--s2:#00805d;--s3:#a8528a;--s4:#8a6100;--s5:#2b2f36;\
--s6:#7a4bd0;--s7:#b3261e;font:13px system-ui,sans-serif}\
@media(prefers-color-scheme:dark){.chart{--ink:#e8ebef;--faint:#3a414b;--s0:#56b4e9;--s1:#ff9357;--s2:#3ccb9f;\
--s3:#e79cc9;--s4:#f0b83a;--s5:#c8ced6;--s6:#b59cf5;--s7:#ff8a80}}\
.chart text{fill:var(--ink)}.chart .grid{stroke:var(--faint)}.chart .axis{stroke:var(--ink)}\
.chart .line{fill:none;stroke-width:2;stroke-linejoin:round}.chart .interval{stroke-width:1.5}";

/// A point of a line chart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Place on the horizontal axis.
    pub x: f64,
    /// Value.
    pub y: f64,
    /// Half the height of the interval around the value.
    pub half_width: Option<f64>,
}

/// A named line or cloud of points.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// In drawing order.
    pub points: Vec<Point>,
}

/// What a chart shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// Said to those who cannot see it.
    pub description: String,
    /// Quantity and unit of the horizontal axis.
    pub x_label: String,
    /// Quantity and unit of the vertical axis.
    pub y_label: String,
    /// Names of the places 0, 1, ... of the horizontal axis; empty for an axis of numbers.
    pub x_names: Vec<String>,
    /// The data.
    pub series: Vec<Series>,
    /// Points without lines and without numbers at the axes.
    pub is_scatter: bool,
}

impl Chart {
    /// The chart as an SVG element.
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let numbers = !self.is_scatter && self.x_names.is_empty();
        let x = Scale::new(points().map(|p| p.x).chain(self.places()), [LEFT, WIDTH - RIGHT], numbers);
        let heights = points().flat_map(|p| [p.y - p.half_width.unwrap_or(0.0), p.y + p.half_width.unwrap_or(0.0)]);
        let y = Scale::new(heights, [HEIGHT - BOTTOM, self.top()], !self.is_scatter);
        let mut svg = format!(
            "<svg class=\"chart\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{}\"><style>{STYLE}</style>\n",
            escape(&self.description)
        );
        self.draw_axes(&mut svg, &x, &y);
        for (index, series) in self.series.iter().enumerate() {
            self.draw_series(&mut svg, index, series, &x, &y);
        }
        svg += "</svg>\n";
        svg
    }

    /// Places of the named axis, with room at both ends.
    fn places(&self) -> impl Iterator<Item = f64> {
        let count = self.x_names.len();
        [-0.25, count as f64 - 0.75].into_iter().filter(move |_| count > 0)
    }

    /// Where the plot begins, below the legend.
    fn top(&self) -> f64 {
        16.0 + LEGEND_ROW * self.series.len().div_ceil(LEGEND_COLUMNS) as f64
    }

    fn draw_axes(&self, svg: &mut String, x: &Scale, y: &Scale) {
        let (left, top, x_end, y_end) = (LEFT, self.top(), WIDTH - RIGHT, HEIGHT - BOTTOM);
        let mut text = String::new();
        if !self.is_scatter {
            for (value, label) in y.ticks() {
                let at = y.place(value);
                let _ =
                    writeln!(svg, "<line class=\"grid\" x1=\"{left}\" y1=\"{at:.1}\" x2=\"{x_end}\" y2=\"{at:.1}\"/>");
                let _ = writeln!(
                    text,
                    "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                    left - 8.0,
                    at + 4.0
                );
            }
            let names = self.x_names.iter().enumerate().map(|(index, name)| (index as f64, name.clone()));
            let ticks: Vec<(f64, String)> = if self.x_names.is_empty() { x.ticks() } else { names.collect() };
            for (value, label) in ticks {
                let (at, y) = (x.place(value), y_end + 18.0);
                let _ =
                    writeln!(text, "<text x=\"{at:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>", escape(&label));
            }
        }
        let _ = writeln!(svg, "<path class=\"axis\" fill=\"none\" d=\"M{left} {top}V{y_end}H{x_end}\"/>{text}");
        let (x_middle, y_middle) = (f64::midpoint(left, x_end), f64::midpoint(top, y_end));
        let (x_label, y_label) = (escape(&self.x_label), escape(&self.y_label));
        let label_y = HEIGHT - 10.0;
        let _ = writeln!(svg, "<text x=\"{x_middle}\" y=\"{label_y}\" text-anchor=\"middle\">{x_label}</text>");
        let place = format!("translate(16 {y_middle}) rotate(-90)");
        let _ = writeln!(svg, "<text transform=\"{place}\" text-anchor=\"middle\">{y_label}</text>");
    }

    fn draw_series(&self, svg: &mut String, index: usize, series: &Series, x: &Scale, y: &Scale) {
        let style = index % NUM_STYLES;
        // Intervals at one place would hide each other.
        let shift =
            if self.x_names.is_empty() { 0.0 } else { 5.0 * (index as f64 - (self.series.len() - 1) as f64 / 2.0) };
        let at = |point: &Point| (x.place(point.x) + shift, y.place(point.y));
        let (colour, dash) = (format!("var(--s{style})"), DASHES[style]);
        let _ = writeln!(svg, "<g stroke=\"{colour}\" fill=\"{colour}\"><title>{}</title>", escape(&series.name));
        if !self.is_scatter {
            let path: Vec<String> = series.points.iter().map(at).map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
            let path = path.join("L");
            let _ = writeln!(svg, "<path class=\"line\" stroke-dasharray=\"{dash}\" d=\"M{path}\"/>");
        }
        for point in &series.points {
            let (px, py) = at(point);
            if let Some(half_width) = point.half_width {
                let (low, high) = (y.place(point.y - half_width), y.place(point.y + half_width));
                let (l, r) = (px - 3.0, px + 3.0);
                let path = format!("M{px:.1} {low:.1}V{high:.1}M{l:.1} {low:.1}H{r:.1}M{l:.1} {high:.1}H{r:.1}");
                let _ = writeln!(svg, "<path class=\"interval\" d=\"{path}\"/>");
            }
            if self.is_scatter || !self.x_names.is_empty() {
                *svg += &marker(style, px, py, if self.is_scatter { 2.6 } else { 4.0 });
            }
        }
        *svg += "</g>\n";
        // The legend stands above the plot, in columns.
        let column = (WIDTH - LEFT - RIGHT) / self.series.len().min(LEGEND_COLUMNS) as f64;
        let lx = LEFT + column * (index % LEGEND_COLUMNS) as f64;
        let ly = 12.0 + LEGEND_ROW * (index / LEGEND_COLUMNS) as f64;
        let _ = write!(svg, "<g stroke=\"{colour}\" fill=\"{colour}\">");
        if !self.is_scatter {
            let _ = write!(svg, "<path class=\"line\" stroke-dasharray=\"{dash}\" d=\"M{lx:.1} {ly}h26\"/>");
        }
        *svg += &marker(style, lx + 13.0, ly, 4.0);
        let _ = writeln!(svg, "</g><text x=\"{:.1}\" y=\"{}\">{}</text>", lx + 32.0, ly + 4.0, escape(&series.name));
    }
}

/// A mark of the style's own shape: disc, square, triangle, diamond.
fn marker(style: usize, x: f64, y: f64, size: f64) -> String {
    let corners: &[(f64, f64)] = match style % 4 {
        0 => return format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{size}\" stroke=\"none\"/>\n"),
        1 => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        2 => &[(0.0, -1.2), (1.1, 0.9), (-1.1, 0.9)],
        _ => &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
    };
    let corners: Vec<String> =
        corners.iter().map(|(dx, dy)| format!("{:.1},{:.1}", x + dx * size, y + dy * size)).collect();
    format!("<polygon stroke=\"none\" points=\"{}\"/>\n", corners.join(" "))
}

/// From values to places on the page.
#[derive(Clone, Copy, Debug)]
struct Scale {
    low: f64,
    high: f64,
    /// Distance of the ticks.
    step: f64,
    /// Places of `low` and `high`.
    range: [f64; 2],
}

impl Scale {
    /// Covers `values`, with a little room; `to_ticks` rounds the ends to ticks.
    fn new(values: impl Iterator<Item = f64>, range: [f64; 2], to_ticks: bool) -> Self {
        let finite = values.filter(|value| value.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let (low, high) = if high - low < 1e-9 { (low - 0.05, high + 0.05) } else { (low, high) };
        // One, two or five times a power of ten, for four to ten ticks.
        let rough = (high - low) / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = power * [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * power >= rough * 0.99).unwrap_or(10.0);
        let room = 0.03 * (high - low);
        let (low, high) = if to_ticks {
            ((low / step).floor() * step, (high / step).ceil() * step)
        } else {
            (low - room, high + room)
        };
        Self { low, high, step, range }
    }

    fn place(&self, value: f64) -> f64 {
        self.range[0] + (value - self.low) / (self.high - self.low) * (self.range[1] - self.range[0])
    }

    /// Values with their labels.
    fn ticks(&self) -> Vec<(f64, String)> {
        let digits = (-self.step.log10().floor()).max(0.0) as usize;
        let first = (self.low / self.step - 1e-6).ceil() as i64;
        let last = (self.high / self.step + 1e-6).floor() as i64;
        let label = |value: f64| format!("{value:.digits$}").replace('-', "\u{2212}");
        let tick = |index: i64| (index as f64 * self.step, label(index as f64 * self.step));
        (first..=last).map(tick).collect()
    }
}

/// Text as XML, for elements and quoted attributes.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(series: Vec<Series>) -> Chart {
        Chart {
            description: "AUC <&> \"SNR\"".to_owned(),
            x_label: "SNR (dB)".to_owned(),
            y_label: "AUC".to_owned(),
            x_names: vec!["clean".to_owned(), "10".to_owned()],
            series,
            is_scatter: false,
        }
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        let scale = Scale::new([0.523, 0.871].into_iter(), [100.0, 0.0], true);
        let labels: Vec<String> = scale.ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["0.5", "0.6", "0.7", "0.8", "0.9"]);
        assert!((scale.place(0.5) - 100.0).abs() < 1e-9 && scale.place(0.9).abs() < 1e-9);
        let steps = Scale::new([0.0, 3_000.0].into_iter(), [0.0, 1.0], true).ticks();
        assert_eq!(steps.last().map(|(_, label)| label.as_str()), Some("3000"));
    }

    #[test]
    fn a_chart_places_points_intervals_and_names() {
        let point = |x: f64, y: f64, half_width| Point { x, y, half_width };
        let points = vec![point(0.0, 0.8, Some(0.05)), point(1.0, 0.7, None)];
        let svg = chart(vec![Series { name: "a<b".to_owned(), points }]).svg();
        assert_eq!(svg.matches("class=\"interval\"").count(), 1);
        // Two points and the legend.
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains(">a&lt;b</text>") && svg.contains("AUC &lt;&amp;&gt; &quot;SNR&quot;"));
        assert!(svg.contains(">clean</text>") && svg.contains(">SNR (dB)</text>"));
    }

    #[test]
    fn nothing_and_one_value_make_a_chart_of_numbers() {
        for series in [vec![], vec![Series { name: "a".to_owned(), points: vec![] }]] {
            let svg = chart(series).svg();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        let one = vec![Point { x: 0.0, y: 0.5, half_width: None }];
        let svg = chart(vec![Series { name: "a".to_owned(), points: one }]).svg();
        assert!(!svg.contains("NaN"), "{svg}");
    }
}
