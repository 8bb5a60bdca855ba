//! Go's duration syntax (`1h30m`, `1.5s`, `300ms`), which Argo CD's configuration uses.

use thiserror::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DurationError {
    #[error("is not a duration; write a number with a unit such as 300ms, 2s or 1m30s")]
    Syntax,
    #[error("has no unit; write it as 300ms, 2s or 1m")]
    NoUnit,
    #[error("has an unknown unit; the units are ns, us, ms, s, m and h")]
    Unit,
    #[error("is too long")]
    Overflow,
}

const LIMIT: u64 = 1 << 63;

/// Nanoseconds of a Go duration text.
pub fn parse(text: &str) -> Result<i64, DurationError> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(DurationError::Syntax);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (nanos, after) = component(rest)?;
        total = total.checked_add(nanos).filter(|t| *t <= LIMIT).ok_or(DurationError::Overflow)?;
        rest = after;
    }
    match (negative, i64::try_from(total)) {
        (true, Ok(n)) => Ok(-n),
        (true, Err(_)) => Ok(i64::MIN),
        (false, Ok(n)) => Ok(n),
        (false, Err(_)) => Err(DurationError::Overflow),
    }
}

/// One `number unit` pair at the start of `text`, and what follows it.
fn component(text: &str) -> Result<(u64, &str), DurationError> {
    let (whole, after_whole) = leading_integer(text)?;
    let whole_digits = text.len() - after_whole.len();
    let (fraction, scale, fraction_digits, after_number) = match after_whole.strip_prefix('.') {
        Some(digits) => leading_fraction(digits),
        None => (0, 1.0, 0, after_whole),
    };
    if whole_digits == 0 && fraction_digits == 0 {
        return Err(DurationError::Syntax);
    }
    let unit_len = after_number.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after_number.len());
    let (unit, rest) = after_number.split_at(unit_len);
    let unit = unit_nanos(unit)?;
    let mut nanos = whole.checked_mul(unit).filter(|n| *n <= LIMIT).ok_or(DurationError::Overflow)?;
    if fraction > 0 {
        // Go computes the fraction in float64 and drops what is below a nanosecond; so do we, to agree on every digit.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let part = (fraction as f64 * (unit as f64 / scale)) as u64;
        nanos = nanos.checked_add(part).filter(|n| *n <= LIMIT).ok_or(DurationError::Overflow)?;
    }
    Ok((nanos, rest))
}

fn leading_integer(text: &str) -> Result<(u64, &str), DurationError> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let mut value: u64 = 0;
    for digit in text[..end].bytes() {
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(u64::from(digit - b'0')))
            .filter(|v| *v <= LIMIT)
            .ok_or(DurationError::Overflow)?;
    }
    Ok((value, &text[end..]))
}

/// Value, scale and number of the fraction's digits; digits that no longer fit are dropped.
fn leading_fraction(text: &str) -> (u64, f64, usize, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (mut value, mut scale): (u64, f64) = (0, 1.0);
    for digit in text[..end].bytes() {
        let Some(next) = value.checked_mul(10).and_then(|v| v.checked_add(u64::from(digit - b'0'))) else {
            break;
        };
        if next > LIMIT {
            break;
        }
        value = next;
        scale *= 10.0;
    }
    (value, scale, end, &text[end..])
}

fn unit_nanos(unit: &str) -> Result<u64, DurationError> {
    Ok(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "" => return Err(DurationError::NoUnit),
        _ => return Err(DurationError::Unit),
    })
}
