//! Tests of the questions to name servers, with servers on loopback.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::*;

/// How a server treats a question: an answer for each question, or none.
type Script = Box<dyn Fn(&[u8]) -> Vec<Vec<u8>> + Send>;

/// A server on a port of its own that answers until the test is over.
fn server(script: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let script: Script = Box::new(script);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (address, asked) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&asked);
    thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((len, client)) = socket.recv_from(&mut bytes) {
            counter.fetch_add(1, Ordering::SeqCst);
            for answer in script(&bytes[..len]) {
                socket.send_to(&answer, client).unwrap();
            }
        }
    });
    (address, asked)
}

fn is_for_v4(question: &[u8]) -> bool {
    question.ends_with(&[0, 1, 0, 1])
}

/// An answer with these flags and, for the right family, these addresses.
fn answer(question: &[u8], flags: u16, addresses: &[IpAddr]) -> Vec<u8> {
    let mut records = Vec::new();
    let mut count = 0u16;
    for address in addresses.iter().filter(|address| address.is_ipv4() == is_for_v4(question)) {
        let (kind, data) = match address {
            IpAddr::V4(address) => (1, address.octets().to_vec()),
            IpAddr::V6(address) => (28, address.octets().to_vec()),
        };
        records.extend([0xC0, 12, 0, kind, 0, 1, 0, 0, 0, 9, 0, u8::try_from(data.len()).unwrap()]);
        records.extend(data);
        count += 1;
    }
    let mut bytes = question[..2].to_vec();
    for word in [0x8180 | flags, 1, count, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(&question[12..]);
    bytes.extend(records);
    bytes
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn look_up(servers: &[SocketAddr]) -> io::Result<Vec<IpAddr>> {
    let servers = NameServers::new(servers.to_vec(), Outgoing::default());
    let found = servers.look_up("connect.example.test")?;
    assert!(found.iter().all(|address| address.port() == 0));
    Ok(found.iter().map(SocketAddr::ip).collect())
}

/// Where nothing answers, and the system says so at once.
fn nobody() -> SocketAddr {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

#[test]
fn both_families_are_asked_for_at_once() {
    let all = addresses(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    let (server, asked) = server(move |question| vec![answer(question, 0, &all)]);
    assert_eq!(look_up(&[server]).unwrap(), addresses(&["2001:db8::1", "192.0.2.1", "192.0.2.2"]));
    assert_eq!(asked.load(Ordering::SeqCst), 2, "one question for each family");
}

#[test]
fn silence_about_one_family_does_not_cost_the_other() {
    let (server, asked) =
        server(|q| if is_for_v4(q) { vec![answer(q, 0, &addresses(&["192.0.2.1"]))] } else { Vec::new() });
    assert_eq!(look_up(&[server]).unwrap(), addresses(&["192.0.2.1"]));
    assert_eq!(asked.load(Ordering::SeqCst), 2, "nobody was asked again");
    let (server, _) = self::server(|q| vec![answer(q, if is_for_v4(q) { 2 } else { 0 }, &addresses(&["2001:db8::1"]))]);
    assert_eq!(look_up(&[server]).unwrap(), addresses(&["2001:db8::1"]));
}

#[test]
fn next_server_is_asked_when_one_fails_or_is_not_there() {
    let (failing, asked) = server(|question| vec![answer(question, 2, &[])]);
    let (good, _) = server(|question| vec![answer(question, 0, &addresses(&["192.0.2.1"]))]);
    assert_eq!(look_up(&[nobody(), failing, good]).unwrap(), addresses(&["192.0.2.1"]));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn silent_server_is_left_and_all_are_asked_twice() {
    let (silent, asked) = server(|_| Vec::new());
    let started = Instant::now();
    let error = look_up(&[silent, nobody()]).unwrap_err().to_string();
    assert!(error.contains(&format!("{silent}: no answer")) && error.contains("refused"), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 4, "two rounds for two families");
    assert!(started.elapsed() < BUDGET);
}

#[test]
fn name_that_does_not_exist_is_an_answer() {
    let (server, _) = server(|question| vec![answer(question, 3, &[])]);
    let (other, asked) = self::server(|question| vec![answer(question, 0, &addresses(&["192.0.2.1"]))]);
    let error = look_up(&[server, other]).unwrap_err().to_string();
    assert!(error.contains("no such name") && error.contains(&server.to_string()), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[test]
fn guessed_answers_are_passed_over() {
    let (server, _) = server(|question| {
        let good = answer(question, 0, &addresses(&["192.0.2.1"]));
        let mut guess = answer(question, 0, &addresses(&["203.0.113.6"]));
        guess[0] ^= 1;
        vec![guess, vec![0; 40], good]
    });
    assert_eq!(look_up(&[server]).unwrap(), addresses(&["192.0.2.1"]));
}

#[test]
fn truncated_answer_is_asked_for_over_tcp() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let udp = UdpSocket::bind(address).unwrap();
    thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((len, client)) = udp.recv_from(&mut bytes) {
            udp.send_to(&answer(&bytes[..len], 0x0200, &[]), client).unwrap();
        }
    });
    let many: Vec<IpAddr> = (0..50).map(|last| IpAddr::from([10, 0, 0, last])).collect();
    let expected = many.clone();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut len = [0; 2];
            stream.read_exact(&mut len).unwrap();
            let mut question = vec![0; usize::from(u16::from_be_bytes(len))];
            stream.read_exact(&mut question).unwrap();
            let answer = answer(&question, 0, &many);
            noted.lock().unwrap().push(is_for_v4(&question));
            let len = u16::try_from(answer.len()).unwrap().to_be_bytes();
            // In pieces, as the network has it.
            for piece in [&len[..1], &len[1..], &answer[..30], &answer[30..]] {
                let _ = stream.write_all(piece);
            }
        }
    });
    assert_eq!(look_up(&[address]).unwrap(), expected);
    assert_eq!(*asked.lock().unwrap(), [true, false]);
}

/// What the clock of the test below has jumped by.
static JUMPED: AtomicUsize = AtomicUsize::new(0);

fn jumping_clock() -> Instant {
    Instant::now() + Duration::from_secs(JUMPED.load(Ordering::SeqCst) as u64)
}

/// Whoever truncates every answer and then makes the look-up wait over TCP does not get it beyond its time.
#[test]
fn nothing_is_asked_over_tcp_when_the_time_of_the_look_up_is_over() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let udp = UdpSocket::bind(address).unwrap();
    let (answered, both) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((len, client)) = udp.recv_from(&mut bytes) {
            udp.send_to(&answer(&bytes[..len], 0x0200, &[]), client).unwrap();
            let _ = answered.send(());
        }
    });
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            counter.fetch_add(1, Ordering::SeqCst);
            // Both answers over UDP lie with the client before this one ends: it needs no time to find the second.
            let _ = (both.recv(), both.recv());
            JUMPED.store(usize::try_from(BUDGET.as_secs()).unwrap(), Ordering::SeqCst);
            // The question, and then the end instead of an answer.
            let _ = stream.read(&mut [0; 512]);
        }
    });
    let mut servers = NameServers::new(vec![address], Outgoing::default());
    servers.clock = jumping_clock;
    let error = servers.look_up("connect.example.test").unwrap_err().to_string();
    assert!(error.contains(&address.to_string()), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the second family was asked for when the time was over");
}

/// A socket whose reads are interrupted by signals so many times before they find something.
struct Interrupted(std::cell::Cell<usize>);

impl ReadWithin for Interrupted {
    fn read_within(&self, patience: Duration, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!patience.is_zero());
        let signals = self.0.get();
        self.0.set(signals.saturating_sub(1));
        if signals > 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        buffer[0] = 7;
        Ok(1)
    }
}

#[test]
fn signals_are_no_answer_and_end_no_wait() {
    let signalled = || Interrupted(std::cell::Cell::new(3 * STRAYS_MAX));
    let (now, mut buffer) = (Instant::now(), [0; 3]);
    let in_time = now + Duration::from_secs(3600);
    assert!(matches!(read_before(in_time, &signalled(), &mut buffer, Instant::now), Ok(1)));
    assert!(read_exact(&signalled(), &mut buffer, in_time, Instant::now).is_ok());
    assert_eq!(buffer, [7; 3]);
    let late = read_before(now, &signalled(), &mut buffer, Instant::now);
    assert!(matches!(late, Err(AskError::NoAnswer)), "signals without end keep nobody beyond the time");
}

#[test]
fn question_ids_are_not_the_same_each_time() {
    let ids: std::collections::HashSet<u16> = (0..64).map(|_| random_id()).collect();
    assert!(ids.len() > 32, "{ids:?}");
}
