//! This machine, as far as one run at a time rests on it: how long it has been up, which of its processes has ended, and
//! that the programs we start end with us.

use std::{fs, sync::Arc, time::Duration};

use rustix::{
    io::Errno,
    process::{Pid, Signal, getpid, kill_process_group, test_kill_process},
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};

/// Tells how long this machine has been up.
pub(crate) type Uptime = Arc<dyn Fn() -> Duration + Send + Sync>;

/// How long this machine has been up, sleep included: a laptop that was closed knows it. Nobody can set this clock.
pub(crate) fn uptime() -> Duration {
    // Elsewhere the monotonic clock goes on while the machine sleeps.
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    let now = clock_gettime(clock);
    let seconds = Duration::from_secs(now.tv_sec.try_into().unwrap_or_default());
    seconds + Duration::from_nanos(now.tv_nsec.try_into().unwrap_or_default())
}

/// The processes of a program that we started in a group of its own: they end with it, whatever becomes of us.
pub(crate) struct Group(Option<Pid>);

impl Group {
    /// By the number of the first of them.
    pub(crate) fn of(first: Option<u32>) -> Self {
        Self(first.and_then(|id| Pid::from_raw(id.cast_signed())))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Whoever has ended by itself is beyond that.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// A process, told from every other one of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// The start of the machine it runs on: a random id, another one after each start.
    boot: String,
    /// The namespace that gives it its number: two containers number theirs alike.
    namespace: String,
    pid: i32,
    /// When it began, in ticks since the machine's start. Numbers are used again.
    start: u64,
}

impl Process {
    /// This one. None where it cannot be told, as on other systems than Linux.
    pub(crate) fn this() -> Option<Self> {
        let pid = getpid().as_raw_nonzero().get();
        // A /proc that was handed in from outside speaks of other processes.
        let own = fs::read_link("/proc/self").ok()?;
        if own.to_str()? != pid.to_string() {
            return None;
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
        Some(Self {
            boot: boot.trim().to_owned(),
            namespace: namespace.to_str()?.to_owned(),
            pid,
            start: stat(pid)?.1,
        })
    }

    /// It ran on this machine, since its last start, and runs no more. False where that is not certain.
    pub(crate) fn has_ended(&self) -> bool {
        let here = Self::this();
        if here.is_none_or(|here| here.boot != self.boot || here.namespace != self.namespace) {
            return false;
        }
        let Some(pid) = Pid::from_raw(self.pid) else {
            return false;
        };
        // Of a process of somebody else /proc may show nothing, though it runs.
        if test_kill_process(pid) == Err(Errno::SRCH) {
            return true;
        }
        stat(self.pid)
            .is_some_and(|(state, start)| start != self.start || matches!(state, 'Z' | 'X'))
    }
}

/// State and beginning of a process.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name stands in brackets, and may hold anything.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_clock_goes_forward() {
        let before = uptime();
        assert!(before > Duration::ZERO && uptime() >= before);
    }

    #[test]
    fn only_a_process_of_this_machine_and_start_is_known_to_have_ended() {
        let this = Process::this().unwrap();
        assert!(!this.has_ended());
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let other = Process {
            pid,
            start: stat(pid).unwrap().1,
            ..this.clone()
        };
        assert!(!other.has_ended());
        child.kill().unwrap();
        // Until it is waited for, its number is still taken.
        while stat(pid).is_some_and(|(state, _)| state != 'Z') {
            std::thread::yield_now();
        }
        assert!(other.has_ended());
        child.wait().unwrap();
        assert!(other.has_ended());
        for elsewhere in [
            Process {
                boot: "another".into(),
                ..other.clone()
            },
            Process {
                namespace: "pid:[1]".into(),
                ..other
            },
        ] {
            assert!(!elsewhere.has_ended(), "{elsewhere:?}");
        }
        // Its number was given to another.
        let reused = Process { start: 1, ..this };
        assert!(reused.has_ended());
    }
}
