//! Late data: what has to be added to a later invoice so that a closed period comes out right.

use super::line::Line;

/// The lines that turn what was `billed` for a period into what it is rated `now`: those that no
/// longer stand are taken back, then the new ones are added. Both are all lines of the period:
/// tiers and volumes need its whole quantity, so it is rated as a whole again, never by the
/// increment. After a first adjustment, `billed` is what was rated then.
///
/// Amounts already billed stay exact: the sum of `billed` and the adjustments is the sum of `now`.
pub fn adjustments(billed: &[Line], now: &[Line]) -> Vec<Line> {
    let mut fresh: Vec<&Line> = now.iter().collect();
    let mut lines = Vec::new();
    for line in billed {
        match fresh.iter().position(|other| stands(line, other)) {
            Some(at) => {
                fresh.remove(at);
            }
            None => lines.push(line.reversed()),
        }
    }
    lines.extend(fresh.into_iter().cloned());
    lines
}

/// Whether two lines say the same, however sure it is by now.
fn stands(billed: &Line, now: &Line) -> bool {
    *billed == Line { estimated: billed.estimated, ..now.clone() }
}
