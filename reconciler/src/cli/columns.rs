//! Text in columns, as `kubectl get` and `ip -br` write it: no lines, two spaces between, nothing at the end.
//!
//! In: a header and rows. Out: lines. Not here: what is in them.

/// How many columns a text takes: SGR sequences, as colours are written, take none.
fn width(text: &str) -> usize {
    let plain = text.split('\u{1b}').enumerate().map(|(at, part)| match part.split_once('m') {
        Some((_, after)) if at > 0 => after,
        _ => part,
    });
    plain.map(|part| part.chars().count()).sum()
}

/// Lines of aligned columns, each line behind `indent`; nothing if there are no rows.
pub fn columns<const N: usize>(indent: &str, header: [&str; N], rows: &[[String; N]]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut widths = header.map(width);
    for row in rows {
        for (widest, text) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(text));
        }
    }
    let mut lines = String::new();
    let mut line = |row: [&str; N]| {
        lines.push_str(indent);
        for (at, (text, widest)) in row.iter().zip(widths).enumerate() {
            lines.push_str(text);
            if row[at + 1..].iter().any(|text| !text.is_empty()) {
                lines.extend(std::iter::repeat_n(' ', widest - width(text) + 2));
            }
        }
        lines.push('\n');
    };
    line(header);
    rows.iter().for_each(|row| line(std::array::from_fn(|at| row[at].as_str())));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_take_no_room() {
        let rows = [["\u{1b}[32mheld\u{1b}[0m".into(), "m".into()], ["unowned".into(), "m".into()]];
        let text = columns("", ["STATE", "X"], &rows);
        assert_eq!(text.replace("\u{1b}[32m", "").replace("\u{1b}[0m", ""), "STATE    X\nheld     m\nunowned  m\n");
    }

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_spaces() {
        let rows = [["10.0.0.1".into(), "édge".into(), String::new()], ["::".into(), String::new(), "x".into()]];
        assert_eq!(
            columns("  ", ["VIP", "NODE", "WHY"], &rows),
            "  VIP       NODE  WHY\n  10.0.0.1  édge\n  ::              x\n"
        );
        assert_eq!(columns("", ["VIP"], &[]), "");
    }
}
