//! How meshlink waits: one loop that asks whether something is so, until it is, cannot be any more, or time is up.
//!
//! What is asked is the caller's; when it is asked again is a [`Pace`]'s: a clock's ([`Every`]) or a source's of events
//! ([`On`]), such as a watch. A wait changes nothing by itself: dropping it ends it, and it can be begun again.

use std::{fmt, future::Future, time::Duration};

use futures::{Stream, StreamExt};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::hint::Hint;

/// Whether it is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress<T, N = Reason> {
    /// It is; this is what was waited for.
    Done(T),
    /// Not yet, for this reason.
    NotYet(Reason),
    /// It cannot become so by waiting, for this reason or error.
    Never(N),
}

/// Why something is not so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason {
    /// In words. What comes after a first line break is for the end of the wait, not for its course.
    pub(crate) text: String,
    /// Commands that show more.
    pub(crate) hints: Vec<Hint>,
}

impl Reason {
    /// With commands that show more.
    pub(crate) fn with(self, hints: Vec<Hint>) -> Self {
        Self { hints, ..self }
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        let hints = vec![];
        Self { text, hints }
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A wait that ended without what was waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unmet<N = Reason> {
    /// Time is up.
    Late {
        /// How long it was waited.
        waited: Duration,
        /// The last reason.
        reason: Reason,
    },
    /// It cannot become so by waiting.
    Never(N),
}

/// Nobody waits longer.
const EVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// When to give up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    start: Instant,
    end: Instant,
}

impl Deadline {
    /// This long from now.
    pub(crate) fn after(limit: Duration) -> Self {
        let start = Instant::now();
        // Longer than a clock reaches is as good as for ever.
        let end = start.checked_add(limit).unwrap_or(start + EVER);
        Self { start, end }
    }

    /// How much is left.
    pub(crate) fn left(self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// How much there was in all.
    pub(crate) fn limit(self) -> Duration {
        self.end - self.start
    }
}

/// When to ask.
pub(crate) trait Pace {
    /// What the question is asked of, such as the new state of a watched object; nothing for a clock.
    type News: Send;

    /// Waits until it is time to ask; `None` if that would be after the deadline. `changed` says that the last answer
    /// gave another reason than the one before.
    fn turn(
        &mut self,
        deadline: Deadline,
        changed: bool,
    ) -> impl Future<Output = Option<Self::News>> + Send;
}

/// Asks at once, and then after pauses, for what cannot be watched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Every {
    first: Duration,
    most: Duration,
    /// The last pause; none before the first question.
    pause: Option<Duration>,
}

impl Every {
    /// Pauses of one length.
    pub(crate) const fn fixed(pause: Duration) -> Self {
        Self::growing(pause, pause)
    }

    /// Pauses that grow by a quarter while the reason stays the same, and begin anew when it changes.
    pub(crate) const fn growing(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            pause: None,
        }
    }

    /// The shortest pause.
    #[cfg(feature = "measure")]
    pub(crate) const fn first(&self) -> Duration {
        self.first
    }
}

impl Pace for Every {
    type News = ();

    async fn turn(&mut self, deadline: Deadline, changed: bool) -> Option<()> {
        let Some(last) = self.pause else {
            self.pause = Some(self.first);
            return Some(());
        };
        let pause = match changed {
            true => self.first,
            false => (last * 5 / 4).min(self.most),
        };
        self.pause = Some(pause);
        let next = Instant::now() + pause;
        if next > deadline.end {
            return None;
        }
        sleep_until(next).await;
        Some(())
    }
}

/// Asks whenever there is something new.
#[derive(Debug)]
pub(crate) struct On<S>(pub S);

impl<S> Pace for On<S>
where
    S: Stream<Item: Send> + Unpin + Send,
{
    type News = S::Item;

    async fn turn(&mut self, deadline: Deadline, _: bool) -> Option<S::Item> {
        timeout_at(deadline.end, self.0.next()).await.ok().flatten()
    }
}

/// Asks at a pace until it is so, and says every new reason why it is not. A question that was begun is not cut short
/// by the deadline.
pub(crate) async fn until<P, F, T, N>(
    mut ask: impl FnMut(P::News) -> F,
    mut pace: P,
    deadline: Deadline,
    mut say: impl FnMut(&str),
) -> Result<T, Unmet<N>>
where
    P: Pace,
    F: Future<Output = Progress<T, N>>,
{
    let begun = Instant::now();
    let mut reason = Reason::from("not looked at yet");
    let mut changed = false;
    while let Some(news) = pace.turn(deadline, changed).await {
        match ask(news).await {
            Progress::Done(value) => return Ok(value),
            Progress::Never(never) => return Err(Unmet::Never(never)),
            Progress::NotYet(why) => {
                changed = why.text != reason.text;
                reason = why;
            }
        }
        if changed {
            say(&reason.text);
        }
    }
    let waited = begun.elapsed();
    Err(Unmet::Late { waited, reason })
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::ready};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Waits a minute for the answers given, one a second, the last for ever: what came of it, how often was asked, and what was said.
    async fn wait(
        answers: &[Progress<u8>],
        pace: Every,
    ) -> (Result<u8, Unmet>, usize, Vec<String>) {
        let (mut asked, mut said) = (0, vec![]);
        let ask = |()| {
            asked += 1;
            ready(answers[(asked - 1).min(answers.len() - 1)].clone())
        };
        let say = |reason: &str| said.push(reason.to_owned());
        let deadline = Deadline::after(60 * SECOND);
        let result = until(ask, pace, deadline, say).await;
        (result, asked, said)
    }

    fn not_yet(reason: &str) -> Progress<u8> {
        Progress::NotYet(reason.into())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_so_already_is_asked_once_without_a_pause() {
        let begun = Instant::now();
        let (result, asked, said) = wait(&[Progress::Done(7)], Every::fixed(SECOND)).await;
        assert_eq!((result, asked, said.len()), (Ok(7), 1, 0));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_asked_until_it_is_so_and_every_new_reason_is_said_once() {
        let begun = Instant::now();
        let answers = [
            not_yet("a"),
            not_yet("a"),
            not_yet("b"),
            not_yet("a"),
            Progress::Done(7),
        ];
        let (result, asked, said) = wait(&answers, Every::fixed(SECOND)).await;
        assert_eq!((result, asked), (Ok(7), 5));
        assert_eq!(said, ["a", "b", "a"]);
        assert_eq!(begun.elapsed().as_secs(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_become_so_ends_it() {
        let answers = [not_yet("a"), Progress::Never("taken".into())];
        let (result, asked, said) = wait(&answers, Every::fixed(SECOND)).await;
        assert_eq!(result, Err(Unmet::Never("taken".into())));
        assert_eq!((asked, said), (2, vec!["a".to_owned()]));
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_tells_the_last_reason_with_its_hints() {
        let last = Reason::from("b").with(vec![Hint::note("look at the pods")]);
        let answers = [not_yet("a"), Progress::NotYet(last.clone())];
        let (result, asked, said) = wait(&answers, Every::fixed(7 * SECOND)).await;
        let waited = 56 * SECOND;
        let reason = last;
        // The next question would come after 63 s: nothing is gained by waiting for the end.
        match result {
            Err(Unmet::Late {
                waited: w,
                reason: r,
            }) => {
                assert_eq!((w.as_secs(), r), (waited.as_secs(), reason));
            }
            other => unreachable!("{other:?}"),
        }
        assert_eq!(asked, 9);
        assert_eq!(said, ["a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_time_is_too_long() {
        assert_eq!(Deadline::after(Duration::MAX).limit(), EVER);
    }

    #[tokio::test(start_paused = true)]
    async fn no_time_at_all_is_time_for_one_question() {
        let ask = |()| ready(not_yet("a"));
        let deadline = Deadline::after(Duration::ZERO);
        let result = until(ask, Every::fixed(SECOND), deadline, |_| {}).await;
        let (waited, reason) = (Duration::ZERO, "a".into());
        assert_eq!(result, Err(Unmet::Late { waited, reason }));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_while_nothing_changes() {
        let begun = Instant::now();
        let mut times = vec![];
        let ask = |()| {
            times.push(begun.elapsed().as_secs());
            ready(match times.len() {
                1..=5 => not_yet("a"),
                6..=7 => not_yet("b"),
                _ => Progress::Done(7),
            })
        };
        let pace = Every::growing(4 * SECOND, 6 * SECOND);
        let deadline = Deadline::after(60 * SECOND);
        until(ask, pace, deadline, |_| {}).await.unwrap();
        // 4, 5, 6 and 6 s; then 6 s until the reason is seen to change, and 4 and 5 s.
        assert_eq!(times, [0, 4, 9, 15, 21, 27, 31, 36]);
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_asked_about_as_they_come() {
        let (events, heard) = tokio::sync::mpsc::unbounded_channel();
        let heard = futures::stream::unfold(heard, |mut heard| async move {
            let event: u8 = heard.recv().await?;
            Some((event, heard))
        });
        let mut seen = vec![];
        let ask = |event| {
            seen.push(event);
            ready(match event {
                3 => Progress::Done(event),
                _ => not_yet("a"),
            })
        };
        let deadline = Deadline::after(60 * SECOND);
        let wait = until(ask, On(Box::pin(heard)), deadline, |_| {});
        let tell = async {
            for event in 1..=3 {
                tokio::time::sleep(SECOND).await;
                events.send(event).unwrap();
            }
        };
        let (result, ()) = tokio::join!(wait, tell);
        assert_eq!((result, seen), (Ok(3), vec![1, 2, 3]));
    }

    #[tokio::test(start_paused = true)]
    async fn without_events_the_deadline_ends_it() {
        let never = futures::stream::pending::<()>();
        let ask = |()| ready(not_yet("a"));
        let deadline = Deadline::after(60 * SECOND);
        let result = until(ask, On(never), deadline, |_| {}).await;
        let Err(Unmet::Late { waited, reason }) = result else {
            unreachable!("{result:?}")
        };
        assert_eq!(waited.as_secs(), 60);
        assert_eq!(reason.text, "not looked at yet");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_dropped_asks_no_more() {
        let asked = Cell::new(0);
        let ask = |()| {
            asked.set(asked.get() + 1);
            ready(not_yet("a"))
        };
        let deadline = Deadline::after(60 * SECOND);
        let wait = until(ask, Every::fixed(SECOND), deadline, |_| {});
        let cancelled = tokio::time::sleep(SECOND * 5 / 2);
        tokio::select! {
            result = wait => unreachable!("{result:?}"),
            () = cancelled => {}
        }
        tokio::time::advance(10 * SECOND).await;
        assert_eq!(asked.get(), 3);
    }
}
