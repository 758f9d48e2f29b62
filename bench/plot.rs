//! Plots as SVG, by hand: a dot a round on a logarithmic axis of milliseconds; lines by the number of VIPs.
//!
//! In: figures by name. Out: the text of an SVG file that needs no font, script or style of others.
//! Not here: which figures (`report`).

use std::fmt::Write as _;

const LEFT: f64 = 150.0;
const WIDTH: f64 = 520.0;
const RIGHT: f64 = 210.0;
const ROW: f64 = 24.0;
const HEAD: f64 = 34.0;

/// Figures of one contender under one heading.
pub struct Strip {
    /// Who.
    pub who: String,
    /// Milliseconds, one a round.
    pub dots: Vec<f64>,
    /// What stands to the right of them.
    pub note: String,
}

/// A heading and its strips.
pub struct Section {
    /// The heading.
    pub title: String,
    /// The strips below it.
    pub strips: Vec<Strip>,
}

/// The same colour for a contender in every plot: ours blue, others warm.
fn colour(who: &str) -> &'static str {
    match who {
        "rendezvip" => "#1f6fb2",
        "rendezvip, fast" => "#17a2a2",
        "rendezvip, 20 ms" => "#5b8def",
        "keepalived, tuned" => "#d9822b",
        "keepalived" => "#b5533c",
        _ => "#7a6a58",
    }
}

fn open(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, more: &str, said: &str) {
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{more}>{}</text>", escape(said));
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64), stroke: &str, width: f64) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{stroke}\" stroke-width=\"{width}\"/>"
    );
}

/// Milliseconds from 1 to 10,000 on a logarithmic axis; less than 1 stands at its beginning.
fn place(millis: f64) -> f64 {
    const DECADES: f64 = 4.0;
    LEFT + WIDTH * (millis.max(1.0).log10() / DECADES).min(1.0)
}

/// A dot a round, a bar at the median.
pub fn strips(sections: &[Section]) -> String {
    let rows: usize = sections.iter().map(|section| section.strips.len()).sum();
    let body = sections.len() as f64 * HEAD + rows as f64 * ROW;
    let mut out = open(LEFT + WIDTH + RIGHT, body + 40.0);
    for (millis, label) in [(1.0, "≤ 1 ms"), (10.0, "10 ms"), (100.0, "100 ms"), (1_000.0, "1 s"), (10_000.0, "10 s")]
    {
        line(&mut out, (place(millis), 8.0), (place(millis), body + 10.0), "#bbb", 1.0);
        text(&mut out, place(millis), body + 26.0, "middle", "", label);
        for part in 2..10 {
            let x = place(millis * f64::from(part));
            if millis < 10_000.0 {
                line(&mut out, (x, body + 4.0), (x, body + 10.0), "#ccc", 1.0);
            }
        }
    }
    let mut y = 0.0;
    for section in sections {
        text(&mut out, 10.0, y + 22.0, "start", " font-weight=\"bold\"", &section.title);
        y += HEAD;
        for strip in &section.strips {
            let middle = y + ROW / 2.0;
            text(&mut out, LEFT - 10.0, middle + 4.0, "end", "", &strip.who);
            let colour = colour(&strip.who);
            let mut sorted = strip.dots.clone();
            sorted.sort_by(f64::total_cmp);
            for (number, dot) in strip.dots.iter().enumerate() {
                // Off the middle by a fixed pattern, so that equal rounds can be told apart.
                let offset = ((number * 7) % 5) as f64 * 2.5 - 5.0;
                let (x, y) = (place(*dot), middle + offset);
                let _ = writeln!(
                    out,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\" fill-opacity=\"0.45\"/>"
                );
            }
            if let Some(median) = sorted.get(sorted.len().saturating_sub(1) / 2) {
                let x = place(*median);
                line(&mut out, (x, middle - 9.0), (x, middle + 9.0), colour, 2.5);
            }
            text(&mut out, LEFT + WIDTH + 8.0, middle + 4.0, "start", " font-size=\"11\"", &strip.note);
            y += ROW;
        }
    }
    out.push_str("</svg>\n");
    out
}

/// A line a contender: (VIPs, frames a second).
pub fn lines(all: &[(String, Vec<(f64, f64)>)]) -> String {
    const HEIGHT: f64 = 260.0;
    const TOP: f64 = 20.0;
    /// 1 to 1,000 VIPs.
    const DECADES: f64 = 3.0;
    let most = all.iter().flat_map(|(_, points)| points).map(|(_, y)| *y).fold(10.0, f64::max);
    let step = if most > 60.0 { 25.0 } else { 5.0 };
    let ceiling = (most / step).ceil() * step;
    let (left, width) = (60.0, 480.0);
    let x = |vips: f64| left + width * vips.max(1.0).log10() / DECADES;
    let y = |rate: f64| TOP + HEIGHT * (1.0 - rate / ceiling);
    let mut out = open(left + width + 170.0, TOP + HEIGHT + 50.0);
    let mut rate = 0.0;
    while rate <= ceiling {
        line(&mut out, (left, y(rate)), (left + width, y(rate)), "#ddd", 1.0);
        text(&mut out, left - 8.0, y(rate) + 4.0, "end", "", &format!("{rate:.0}"));
        rate += step;
    }
    for vips in [1.0, 10.0, 100.0, 1_000.0] {
        line(&mut out, (x(vips), TOP), (x(vips), TOP + HEIGHT), "#ddd", 1.0);
        text(&mut out, x(vips), TOP + HEIGHT + 18.0, "middle", "", &format!("{vips:.0}"));
    }
    text(&mut out, left + width / 2.0, TOP + HEIGHT + 38.0, "middle", "", "VIPs");
    text(&mut out, 10.0, 14.0, "start", "", "frames a second, the busiest node");
    // Contenders with the same rate would hide each other's name.
    let mut taken: Vec<f64> = Vec::new();
    for (who, points) in all {
        let path: Vec<String> = points.iter().map(|(vips, rate)| format!("{:.1},{:.1}", x(*vips), y(*rate))).collect();
        let colour = colour(who);
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for (vips, rate) in points {
            let _ =
                writeln!(out, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{colour}\"/>", x(*vips), y(*rate));
        }
        if let Some((_, rate)) = points.last() {
            let mut at = y(*rate) + 4.0;
            while taken.iter().any(|other| (other - at).abs() < 14.0) {
                at -= 14.0;
            }
            taken.push(at);
            text(&mut out, left + width + 10.0, at, "start", &format!(" fill=\"{colour}\""), who);
        }
    }
    out.push_str("</svg>\n");
    out
}
