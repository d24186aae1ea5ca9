//! Places where a test may kill the process, around every effect.

/// Where the process dies, if anywhere: `install-cacerts/eks-1:before`, `…:after`, `…:journalled`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crash(Option<String>);

impl Crash {
    /// Dies at this place. Does nothing unless built with the `crashpoints` feature.
    pub fn at(place: Option<String>) -> Self {
        Self(place.filter(|_| cfg!(feature = "crashpoints")))
    }

    /// Passes a place. No destructor runs and nothing is flushed if this is where it ends. Dying of a
    /// bug is asked for as `install-cacerts/eks-1:bug`.
    #[expect(clippy::panic, reason = "a test asks for it")]
    pub(super) fn pass(&self, step: &str, moment: &str) {
        if self
            .0
            .as_deref()
            .is_some_and(|at| at == format!("{step}:{moment}"))
        {
            std::process::abort();
        }
        if moment == "before" && self.0.as_deref() == Some(&format!("{step}:bug")) {
            panic!("a bug that a test asked for, with a canary in it");
        }
    }
}
