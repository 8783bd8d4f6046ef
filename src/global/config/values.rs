//! Values of the variable: sizes, times, signals. Nothing here allocates or panics.

use core::ffi::c_int;

use crate::heap::scavenge::DECAY_NEVER_MS;

/// A time in milliseconds, which is also the unit when none is given.
pub(super) fn milliseconds(text: &[u8]) -> Option<u32> {
    let (number, unit) = number(text)?;
    let scale = match unit {
        b"" | b"ms" => 1,
        b"s" => 1000,
        b"min" => 60_000,
        b"h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(scale)?.try_into().ok().filter(|ms| *ms > 0)
}

/// As [`milliseconds`], or `never`.
pub(super) fn decay(text: &[u8]) -> Option<u32> {
    if text == b"never" { Some(DECAY_NEVER_MS) } else { milliseconds(text) }
}

/// A signal by its name, with or without `SIG`, whose letters may be of any case, or the number of
/// a real-time signal.
pub(super) fn signal(text: &[u8]) -> Option<c_int> {
    const NAMES: [(&[u8], c_int); 3] =
        [(b"HUP", libc::SIGHUP), (b"USR1", libc::SIGUSR1), (b"USR2", libc::SIGUSR2)];
    let sig = text.split_at_checked(3).filter(|(sig, _)| sig.eq_ignore_ascii_case(b"SIG"));
    let name = sig.map_or(text, |(_, name)| name);
    if let Some((_, signal)) = NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)) {
        return Some(*signal);
    }
    let (number, rest) = number(text)?;
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    let signal = c_int::try_from(number).ok()?;
    (rest.is_empty() && real_time.contains(&signal)).then_some(signal)
}

/// A whole number and what follows it.
pub(super) fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, unit) = text.split_at_checked(digits).filter(|(digits, _)| !digits.is_empty())?;
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })?;
    Some((number, unit.trim_ascii()))
}

/// A number of bytes with an optional unit, whose letters may be of any case; one letter stands for
/// the binary unit, as in other allocators' options.
pub(super) fn size(text: &[u8]) -> Option<u64> {
    const UNITS: [(&[u8], u64); 11] = [
        (b"", 1),
        (b"b", 1),
        (b"k", 1 << 10),
        (b"m", 1 << 20),
        (b"g", 1 << 30),
        (b"kb", 1_000),
        (b"mb", 1_000_000),
        (b"gb", 1_000_000_000),
        (b"kib", 1 << 10),
        (b"mib", 1 << 20),
        (b"gib", 1 << 30),
    ];
    let (number, unit) = number(text)?;
    let (_, scale) = UNITS.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name))?;
    number.checked_mul(*scale)
}
