//! The name area: names are written once and never changed, so that a slot can hold an id and the
//! next boot can still read what it meant.

use std::sync::atomic::Ordering;

use super::layout::{Words, header, load_text, store_bytes};

/// Longest name that is kept, in bytes; a longer one is cut. DNS names fit.
const MAX_NAME_BYTES: usize = 255;

/// The name of an id; empty for 0 and for what is not an id.
pub(super) fn name(table: Words<'_>, id: u32) -> String {
    let area = table.names();
    let at = id as usize;
    let Some(len) = area.get(at).filter(|_| at != 0) else { return String::new() };
    let len = usize::try_from(len.load(Ordering::Relaxed)).unwrap_or(0).min(MAX_NAME_BYTES);
    load_text(&area[at + 1..], len)
}

/// The name of an id; `None` for 0.
pub(super) fn optional_name(table: Words<'_>, id: u32) -> Option<String> {
    (id != 0).then(|| name(table, id))
}

/// The id of a name, written behind the others if it is new. `None`: the area is full. Only one
/// thread may register at a time.
pub(super) fn register(table: Words<'_>, text: &str) -> Option<u32> {
    let text = &text[..text.floor_char_boundary(MAX_NAME_BYTES)];
    let area = table.names();
    let used = usize::try_from(table.header(header::NAMES_USED)).ok()?;
    let mut at = 1;
    while at < used {
        let len = usize::try_from(area[at].load(Ordering::Relaxed)).ok()?;
        if load_text(&area[at + 1..], len) == text {
            return u32::try_from(at).ok();
        }
        at += 1 + len.div_ceil(8);
    }
    let end = used + 1 + text.len().div_ceil(8);
    if end > area.len() {
        return None;
    }
    store_bytes(&area[used + 1..], text.as_bytes());
    area[used].store(text.len() as u64, Ordering::Relaxed);
    table.set_header(header::NAMES_USED, end as u64);
    u32::try_from(used).ok()
}
