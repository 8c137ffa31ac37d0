//! The plot of cost and latency against load, as SVG.

use std::fmt::Write;

use super::report::Row;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 40.0;
/// Colours that are visible on white and on black.
const COLOURS: [&str; 4] = ["#3b7dd8", "#d8703b", "#3ba35a", "#a35ad0"];

/// A line of a panel: its name, and a value for each row.
type Line = (&'static str, fn(&Row) -> f64);

/// Two panels with logarithmic axes: dollars a month, and seconds. Equal rows give equal bytes.
pub fn svg(rows: &[Row]) -> String {
    let (width, height) = (2.0 * (LEFT + WIDTH) + 40.0, TOP + HEIGHT + 96.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\" \
         fill=\"#808080\">\n<title>Cost and latency against load</title>\n"
    );
    let cost: [Line; 3] = [
        ("builds", |row| row.builds),
        ("requests and fixed costs", |row| row.requests),
        ("bytes of programs", |row| row.downloads),
    ];
    let latency: [Line; 4] = [
        ("hit, median", |row| row.hit.0),
        ("hit, p99", |row| row.hit.1),
        ("miss until its task starts, median", |row| row.miss.0),
        ("miss, p99", |row| row.miss.1),
    ];
    panel(&mut svg, rows, LEFT, "dollars a month", &cost);
    panel(&mut svg, rows, 2.0 * LEFT + WIDTH + 20.0, "seconds", &latency);
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, rows: &[Row], left: f64, unit: &str, lines: &[Line]) {
    let values = || lines.iter().flat_map(|(_, value)| rows.iter().map(value)).filter(|value| *value > 0.0);
    let decade = |value: f64| value.max(1e-6).log10();
    let low = values().map(decade).fold(f64::INFINITY, f64::min).min(0.0).floor();
    let high = values().map(decade).fold(f64::NEG_INFINITY, f64::max).max(low + 1.0).ceil();
    let last = rows.len().saturating_sub(1).max(1) as f64;
    let x = |at: usize| left + WIDTH * at as f64 / last;
    let y = |value: f64| TOP + HEIGHT * (1.0 - (decade(value).max(low) - low) / (high - low));
    let _ = writeln!(svg, "<text x=\"{left}\" y=\"{:.1}\">{unit}</text>", TOP - 16.0);
    for power in low as i32..=high as i32 {
        let (value, at) = (10f64.powi(power), y(10f64.powi(power)));
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {at:.1}H{:.1}\" stroke=\"#80808050\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left + WIDTH,
            left - 6.0,
            at + 4.0,
            short(value)
        );
    }
    for (at, row) in rows.iter().enumerate() {
        let (x, y) = (x(at), TOP + HEIGHT + 18.0);
        let _ =
            writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>", short(row.hits as f64));
    }
    let y_name = TOP + HEIGHT + 34.0;
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{y_name:.1}\" text-anchor=\"middle\">hits a day</text>",
        left + WIDTH / 2.0
    );
    for (at, (name, value)) in lines.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let points: Vec<_> =
            rows.iter().enumerate().map(|(at, row)| format!("{:.1},{:.1}", x(at), y(value(row)))).collect();
        let (key_x, key_y) = (left + (at % 2) as f64 * WIDTH / 2.0, TOP + HEIGHT + 56.0 + (at / 2) as f64 * 18.0);
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
             <text x=\"{key_x:.1}\" y=\"{key_y:.1}\" fill=\"{colour}\">{name}</text>",
            points.join(" ")
        );
    }
}

/// A power of ten: 10 k, 1 M, 0.01.
fn short(value: f64) -> String {
    match value {
        1e6.. => format!("{} M", value / 1e6),
        1e3.. => format!("{} k", value / 1e3),
        _ => format!("{value}"),
    }
}
