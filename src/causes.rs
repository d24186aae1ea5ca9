//! An error and what caused it, as texts for people.

use std::{error::Error, io, iter::successors};

/// An error and everything below it. An I/O error made from another error hides that one from `source`, which names
/// only what lies below it.
pub(crate) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&error| {
        let hidden = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        hidden
            .map(|error| error as &(dyn Error + 'static))
            .or_else(|| error.source())
    })
}

/// Their texts, outermost first. Some libraries repeat the cause at the end of an error's own text: it is said once.
pub(crate) fn texts(error: &(dyn Error + 'static)) -> Vec<String> {
    chain(error).fold(vec![], |mut texts: Vec<String>, error| {
        let text = error.to_string();
        if texts.last().is_none_or(|outer| !outer.ends_with(&text)) {
            texts.push(text);
        }
        texts
    })
}

/// The same on one line.
pub(crate) fn line(error: &(dyn Error + 'static)) -> String {
    texts(error).join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Nested {
        #[error("connect")]
        Connect(#[source] Box<Nested>),
        #[error("tls: refused")]
        Tls(#[source] io::Error),
        #[error("refused")]
        Refused(#[source] Box<Nested>),
        #[error("by peer")]
        Peer,
    }

    #[test]
    fn what_an_error_repeats_is_said_once() {
        let refused = Nested::Refused(Box::new(Nested::Peer));
        let error = Nested::Connect(Box::new(Nested::Tls(io::Error::other(refused))));
        assert_eq!(chain(&error).count(), 5);
        assert_eq!(texts(&error), ["connect", "tls: refused", "by peer"]);
        assert_eq!(line(&error), "connect: tls: refused: by peer");
    }
}
