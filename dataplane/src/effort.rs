//! A bound on what one decision may cost. Patterns are input, and there may be thousands of them: whatever they are,
//! no request may hold up the others.

/// Steps that one decision may take, of a few nanoseconds each.
const STEPS: usize = 500_000;

/// What is left of the steps.
#[derive(Debug)]
pub(crate) struct Effort(usize);

/// More would be needed to tell than may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exhausted;

impl Default for Effort {
    fn default() -> Self {
        Self(STEPS)
    }
}

impl Effort {
    pub(crate) fn spend(&mut self, steps: usize) -> Result<(), Exhausted> {
        match self.0.checked_sub(steps) {
            Some(left) => self.0 = left,
            // Whatever else is to be matched is as little known.
            None => {
                self.0 = 0;
                return Err(Exhausted);
            }
        }
        Ok(())
    }
}
