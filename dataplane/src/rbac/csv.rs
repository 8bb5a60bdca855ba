//! One line of a policy as comma-separated values, read as Go's `encoding/csv` reads it with leading space trimmed:
//! a quote may stand only at the start of a field, and a quoted field ends at its closing quote.

use thiserror::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CsvError {
    #[error("a quote stands within a field that does not start with one; quote the whole field")]
    BareQuote,
    #[error("a quoted field is not closed, or text follows its closing quote")]
    Quote,
}

/// The fields of one line.
pub(super) fn fields(line: &str) -> Result<Vec<String>, CsvError> {
    let mut fields = Vec::with_capacity(6);
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => plain_field(rest)?,
        };
        fields.push(field);
        match after {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

fn plain_field(text: &str) -> Result<(String, Option<&str>), CsvError> {
    let (field, after) = match text.split_once(',') {
        Some((field, after)) => (field, Some(after)),
        None => (text, None),
    };
    if field.contains('"') { Err(CsvError::BareQuote) } else { Ok((field.to_owned(), after)) }
}

/// After the opening quote. A doubled quote stands for one.
fn quoted_field(text: &str) -> Result<(String, Option<&str>), CsvError> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"').ok_or(CsvError::Quote)?;
        field.push_str(before);
        if let Some(doubled) = after.strip_prefix('"') {
            field.push('"');
            rest = doubled;
        } else if after.is_empty() {
            return Ok((field, None));
        } else {
            return after.strip_prefix(',').map(|after| (field, Some(after))).ok_or(CsvError::Quote);
        }
    }
}
