//! The admin socket from both ends, over a real one.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene should fail")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use e2e_tests::wait::{self, DEADLINE};
use forwarder::admin::client::ask;
use forwarder::admin::server::Server;
use forwarder::admin::{Answer, Complaint, Filter, MAX_REQUEST_BYTES, Request, Sessions, Sort};
use schemas::exit::{Exit, Failure};
use tokio::sync::oneshot;

/// A running server; gone when dropped.
struct Serving {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.take();
        wait::joined("the server stops", self.thread.take().unwrap());
    }
}

/// A server on `socket` whose answers tell what was asked.
fn serving(socket: &Path) -> Serving {
    let (stop, stopped) = oneshot::channel();
    let (bound, is_bound) = mpsc::channel();
    let socket = socket.to_owned();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::bind(&socket).unwrap();
            bound.send(()).unwrap();
            tokio::select! {
                () = server.serve(|request| std::future::ready(answer(request))) => {}
                _ = stopped => {}
            }
        });
    });
    is_bound.recv_timeout(DEADLINE).unwrap();
    Serving { stop: Some(stop), thread: Some(thread) }
}

fn answer(request: Request) -> Answer {
    match request {
        Request::Sessions { limit, .. } => {
            Answer::Sessions(Sessions { total: limit.into(), ..Sessions::default() })
        }
        _ => Answer::Error(Complaint {
            exit: Exit::Config.code(),
            message: "f.toml:1:1: wrong".to_owned(),
        }),
    }
}

fn sessions(limit: u32) -> Request {
    Request::Sessions { filter: Filter::default(), sort: Sort::Age, limit }
}

fn bind(socket: &Path) -> Result<Server, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { Server::bind(socket) })
}

/// What the server says to raw bytes before it closes, or before nothing more comes for a while.
fn raw(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // The server may hang up while we still talk.
    drop(stream.write_all(bytes));
    drop(stream.shutdown(std::net::Shutdown::Write));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_question_gets_its_answer_and_a_refusal_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("run/admin.sock");
    let _serving = serving(&socket);
    let answer = ask(&socket, &sessions(7)).unwrap();
    assert_eq!(answer, Answer::Sessions(Sessions { total: 7, ..Sessions::default() }));
    let refusal = ask(&socket, &Request::Reload { apply_to_running: false }).unwrap_err();
    assert_eq!(refusal, Failure::new(Exit::Config, "f.toml:1:1: wrong"));
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn one_connection_carries_many_requests() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let _serving = serving(&socket);
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    for limit in 1..5 {
        writeln!(stream, "{{\"command\":\"sessions\",\"limit\":{limit}}}").unwrap();
        let answer = lines.next().unwrap().unwrap();
        assert_eq!(
            answer,
            format!("{{\"sessions\":{{\"total\":{limit},\"sort\":\"age\",\"list\":[]}}}}")
        );
    }
}

#[test]
fn what_is_no_request_is_answered_with_a_word_why() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let _serving = serving(&socket);
    for noise in [
        "\n",
        "status\n",
        "{\"command\":\"dance\"}\n",
        "{\"command\":\"sessions\",\"limit\":-1}\n",
        "[[[[[\n",
    ] {
        let answer = raw(&socket, noise.as_bytes());
        assert!(
            answer.contains("\"exit\":64") && answer.contains("does not understand"),
            "{answer}"
        );
    }
    assert!(raw(&socket, b"\xff\xfe\n").contains("UTF-8"));
    let long = vec![b'x'; MAX_REQUEST_BYTES + 2];
    assert!(raw(&socket, &long).contains("at most 65536 bytes"));
    // It serves on.
    assert!(ask(&socket, &sessions(1)).is_ok());
}

#[test]
fn more_connections_than_the_limit_are_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let _serving = serving(&socket);
    let _held: Vec<_> = (0..16).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let refusal = ask(&socket, &sessions(1)).unwrap_err();
    assert_eq!(refusal.exit, Exit::Unreachable);
    assert!(refusal.message.contains("try again"), "{refusal}");
}

#[test]
fn a_socket_file_nobody_listens_on_is_replaced_and_a_live_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let serving = serving(&socket);
    let refusal = bind(&socket).unwrap_err();
    assert_eq!(refusal.exit, Exit::Unreachable);
    assert!(refusal.message.contains("a running forwarder answers there"), "{refusal}");
    assert!(ask(&socket, &sessions(1)).is_ok());
    drop(serving);
    assert!(!socket.exists(), "the server takes its socket with it");
}

#[test]
fn a_file_that_is_no_socket_is_never_removed() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    std::fs::write(&socket, "precious").unwrap();
    assert_eq!(bind(&socket).unwrap_err().exit, Exit::Unreachable);
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
}

#[test]
fn an_answer_of_another_program_is_no_forwarders() {
    let dir = tempfile::tempdir().unwrap();
    for (name, words) in
        [("recorder", &b"{\"status\":{\"build\":\"1\"}}\n"[..]), ("binary", b"\xfd\xfe\n")]
    {
        let socket = dir.path().join(name);
        let listener = UnixListener::bind(&socket).unwrap();
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(words).unwrap();
            stream
        });
        let failure = ask(&socket, &Request::Status).unwrap_err();
        assert_eq!(failure.exit, Exit::Unreachable, "{failure}");
        assert!(failure.message.contains("answers, but not as"), "{failure}");
        drop(wait::joined("it answers", answering));
    }
}

#[test]
fn who_asks_nobody_is_told_that_no_forwarder_runs() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    for _ in 0..2 {
        let failure = ask(&socket, &Request::Status).unwrap_err();
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.message.starts_with("no forwarder runs here"), "{failure}");
        drop(UnixListener::bind(&socket));
    }
}
