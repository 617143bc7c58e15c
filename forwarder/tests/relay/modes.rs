//! The ways payload may take, each forced, so that one test body shows the same on all of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use forwarder::relay::Tuning;
use forwarder_core::session::Route;
use schemas::vocab::Transport::Tcp;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::recorder::Recorder;
use crate::support::{Scene, Setup, one_service};

/// What a relay under test does with payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It copies.
    Copy,
    /// It splices from the first byte on.
    Splice,
    /// It copies and splices as users have it.
    Adaptive,
    /// It splices and keeps everything by tee(2), as slowly as the recorder takes it.
    Tee,
    /// It would splice, but a seccomp filter forbids it.
    Denied,
    /// The same, and it keeps everything.
    DeniedTee,
    /// It would splice, but has a pipe for one direction of one session.
    OnePipe,
}

/// A relay in some mode, towards one target.
pub(crate) struct Stage {
    pub(crate) scene: Scene,
    pub(crate) recorder: Option<Recorder>,
}

impl Mode {
    pub(crate) fn start(self, target: SocketAddr) -> Stage {
        self.start_with(&one_service(Tcp, &[target]))
    }

    /// With these services and rules; the last rule is the one that is captured.
    pub(crate) fn start_with(self, text: &str) -> Stage {
        let tuning = match self {
            Self::Copy => Tuning { route: Route::Copy, ..Tuning::default() },
            Self::Adaptive => Tuning::default(),
            Self::Splice | Self::Tee | Self::Denied | Self::DeniedTee => {
                Tuning { route: Route::Splice, ..Tuning::default() }
            }
            Self::OnePipe => Tuning { route: Route::Splice, pipes: 1, ..Tuning::default() },
        };
        let mut text = text.to_owned();
        let recorder = matches!(self, Self::Tee | Self::DeniedTee).then(Recorder::start);
        let mut setup = Setup { tuning, ..Setup::default() };
        if let Some(recorder) = &recorder {
            text += "capture = \"full\"\ncapture_when_behind = \"slow\"\n";
            setup.capture = recorder.lane();
        }
        let start = move || {
            if matches!(self, Self::Denied | Self::DeniedTee) {
                deny_splice();
            }
            Scene::start_with(&text, setup)
        };
        // A filter is for the thread that sets it and those it starts.
        let scene = std::thread::spawn(start).join().unwrap();
        Stage { scene, recorder }
    }
}

/// As a container's seccomp profile may do.
fn deny_splice() {
    let rules = BTreeMap::from([(libc::SYS_splice, vec![]), (libc::SYS_tee, vec![])]);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter(&program).unwrap();
}

/// Makes a test of each body in each mode.
macro_rules! in_every_mode {
    ($($body:ident)*) => {
        in_every_mode!(@ copy Copy $($body)*);
        in_every_mode!(@ splice Splice $($body)*);
        in_every_mode!(@ adaptive Adaptive $($body)*);
        in_every_mode!(@ tee Tee $($body)*);
        in_every_mode!(@ denied Denied $($body)*);
        in_every_mode!(@ denied_tee DeniedTee $($body)*);
        in_every_mode!(@ one_pipe OnePipe $($body)*);
    };
    (@ $module:ident $mode:ident $($body:ident)*) => {
        mod $module {
            use crate::modes::Mode;

            $(
                #[test]
                fn $body() {
                    super::$body(Mode::$mode);
                }
            )*
        }
    };
}

pub(crate) use in_every_mode;
