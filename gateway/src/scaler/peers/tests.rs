//! Each rule, at both sides.

use super::*;

const OWN: Instance = Instance(50);
const TICK: Duration = Duration::from_millis(250);

fn name(text: &str) -> FunctionName {
    FunctionName::parse(text.as_bytes()).unwrap()
}

fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, 1], number))
}

fn listed(numbers: &[u16]) -> Vec<Peer> {
    numbers.iter().map(|number| Peer { address: address(*number), is_expected: true }).collect()
}

/// Peers by number, and the time.
struct Told {
    peers: Peers,
    now: Instant,
}

impl Told {
    fn of(numbers: &[u16]) -> Told {
        let mut told = Told { peers: Peers::new(OWN), now: Instant::now() };
        told.list(numbers);
        told
    }

    fn list(&mut self, numbers: &[u16]) {
        self.peers.list(&listed(numbers), self.now);
    }

    /// A peer, as that instance, tells its calls of the function `echo`.
    fn tells(&mut self, number: u16, instance: u64, (in_flight, ended): (u32, u64)) {
        let functions = HashMap::from([(name("echo"), Load { in_flight, ended, ..Load::default() })]);
        let page = Page { instance: Instance(instance), functions };
        self.peers.take(address(number), page, self.now);
    }

    fn view(&self) -> View {
        self.peers.view(self.now)
    }

    fn echo(&self) -> (u32, u64) {
        let load = self.view().load(&name("echo"));
        (load.in_flight, load.ended)
    }

    fn may_shrink(&self) -> bool {
        self.view().may_shrink(self.now)
    }
}

#[test]
fn a_gateway_that_is_alone_decides_alone() {
    let told = Told::of(&[]);
    assert_eq!(told.view(), View::alone());
    assert!(told.may_shrink() && !told.view().is_busy());
}

#[test]
fn loads_are_added_up_and_what_ended_before_is_not_counted() {
    let mut told = Told::of(&[1, 2]);
    told.tells(1, 60, (3, 1000));
    told.tells(2, 70, (4, 7));
    assert_eq!(told.echo(), (7, 0));
    told.tells(1, 60, (2, 1010));
    told.tells(2, 70, (0, 9));
    assert_eq!(told.echo(), (2, 12));
    assert!(told.view().is_busy() && told.view().load(&name("other")) == Load::default());
    told.tells(2, 70, (0, 4));
    assert_eq!(told.echo(), (2, 16), "the function was removed and added again");
    told.tells(1, 60, (u32::MAX, u64::MAX));
    told.tells(2, 70, (u32::MAX, u64::MAX));
    assert_eq!(told.echo(), (u32::MAX, u64::MAX));
}

#[test]
fn functions_of_which_nobody_tells_any_more_are_forgotten() {
    let mut told = Told::of(&[1]);
    for number in 0..100 {
        let functions =
            HashMap::from([(name(&format!("preview-{number}")), Load { ended: 1, ..Load::default() })]);
        told.peers.take(address(1), Page { instance: Instance(60), functions }, told.now);
        told.list(&[1]);
        assert!(told.peers.ended.len() <= 1, "{number}");
    }
    assert_eq!(told.view().turnovers, 1, "no peer went");
}

#[test]
fn one_of_all_that_tell_their_load_takes_away() {
    for (others, is_first) in [(&[60, 70][..], true), (&[60, 40], false), (&[51], true), (&[49], false)] {
        let numbers: Vec<u16> = (0..others.len() as u16).collect();
        let mut told = Told::of(&numbers);
        assert!(!told.may_shrink(), "nobody told its load yet");
        for (number, instance) in numbers.iter().zip(others) {
            told.tells(*number, *instance, (0, 0));
        }
        assert_eq!(told.may_shrink(), is_first, "{others:?}");
    }
}

#[test]
fn an_old_load_counts_for_a_while_but_takes_nothing_away() {
    let mut told = Told::of(&[1]);
    told.tells(1, 60, (5, 0));
    told.now += SHRINK_TIME;
    assert!(told.may_shrink());
    told.now += Duration::from_millis(1);
    assert!(!told.may_shrink());
    told.now += FRESH_TIME - SHRINK_TIME - Duration::from_millis(2);
    assert_eq!(told.echo().0, 5);
    told.now += Duration::from_millis(1);
    assert_eq!(told.echo().0, 0);
}

#[test]
fn as_long_as_a_peer_that_should_tell_is_silent_nothing_is_taken_away() {
    let mut told = Told::of(&[1, 2]);
    for second in 0..600 {
        told.list(&[1, 2]);
        told.tells(1, 60, (0, 0));
        if second == 0 {
            told.tells(2, 40, (0, 0));
        }
        told.peers.fail(address(2), "connection refused".to_owned());
        assert!(!told.may_shrink(), "{second}");
        told.now += Duration::from_secs(1);
    }
    told.list(&[1]);
    told.tells(1, 60, (0, 0));
    assert!(told.may_shrink(), "it is gone");
    let mut starting = listed(&[1, 3]);
    starting[1].is_expected = false;
    told.peers.list(&starting, told.now);
    assert!(told.may_shrink(), "nobody expects an answer of one that cannot start");
}

#[test]
fn a_peer_that_the_engine_forgot_counts_as_long_as_it_answers() {
    let mut told = Told::of(&[1]);
    for tick in 0..40 {
        told.tells(1, 60, (1, tick));
        told.list(&[]);
        assert_eq!(told.echo(), (1, tick));
        told.now += TICK;
    }
    let before = told.view().turnovers;
    told.now += FRESH_TIME;
    told.list(&[]);
    assert_eq!(told.peers.addresses().count(), 0);
    assert_eq!(told.view(), View { turnovers: before + 1, ..View::alone() });
}

#[test]
fn who_comes_goes_or_starts_again_is_counted() {
    let mut told = Told::of(&[1]);
    let expect = |told: &Told, want| assert_eq!(told.view().turnovers, want);
    told.tells(1, 60, (0, 10));
    expect(&told, 1);
    told.tells(1, 60, (0, 10));
    expect(&told, 1);
    told.now += 10 * FRESH_TIME;
    told.list(&[1]);
    told.tells(1, 60, (0, 15));
    expect(&told, 1);
    assert_eq!(told.echo(), (0, 5), "what it did while it was not heard is known");
    told.tells(1, 61, (0, 3));
    expect(&told, 2);
    assert_eq!(told.echo(), (0, 5), "another gateway has the address");
}

#[test]
fn a_gateway_does_not_count_itself() {
    let mut told = Told::of(&[1, 2]);
    told.tells(1, OWN.0, (5, 5));
    told.tells(2, 60, (1, 0));
    assert_eq!(told.echo(), (1, 0));
    assert_eq!(told.peers.addresses().collect::<Vec<_>>(), [address(2)]);
    assert!(told.may_shrink());
    told.now += 2 * FRESH_TIME;
    told.list(&[1]);
    assert_eq!(told.view().as_of, None);
    assert!(told.may_shrink() && told.peers.addresses().count() == 0);
}

#[test]
fn no_more_than_so_many_are_asked_and_beyond_nothing_is_taken_away() {
    let most: Vec<u16> = (0..MAX_PEERS as u16).collect();
    let mut told = Told::of(&most);
    most.iter().for_each(|number| told.tells(*number, 60 + u64::from(*number), (1, 0)));
    assert!(told.may_shrink() && told.peers.news(told.now).is_empty());
    told.list(&[&most[..], &[1000]].concat());
    assert_eq!((told.peers.addresses().count(), told.echo().0), (MAX_PEERS, MAX_PEERS as u32));
    assert!(!told.may_shrink());
    let news = told.peers.news(told.now);
    assert!(matches!(&news[..], [News::Bad(line)] if line.contains("more than 32")), "{news:?}");
    assert!(told.peers.news(told.now).is_empty(), "it is said once");
}

#[test]
fn silence_is_said_once_with_its_reason_and_its_end_too() {
    let mut told = Told::of(&[1]);
    told.peers.fail(address(1), "its answer is 404".to_owned());
    assert!(told.peers.news(told.now).is_empty(), "it may be starting");
    told.now += FRESH_TIME;
    let news = told.peers.news(told.now);
    let want = "the gateway at 10.0.1.1:1 does not tell its load: its answer is 404".to_owned();
    assert_eq!(news, [News::Bad(want)]);
    assert!(told.peers.news(told.now).is_empty());
    told.tells(1, 60, (0, 0));
    assert_eq!(
        told.peers.news(told.now),
        [News::Good("the gateway at 10.0.1.1:1 tells its load".to_owned())]
    );
    assert!(told.peers.news(told.now).is_empty());
}

#[test]
fn the_most_that_alerts_keep_at_a_peer_is_told() {
    let mut told = Told::of(&[1, 2, 3]);
    for (number, kept) in [(1, 4), (2, 7), (3, 0)] {
        let functions = HashMap::from([(name("echo"), Load { kept, ..Load::default() })]);
        let page = Page { instance: Instance(60 + u64::from(number)), functions };
        told.peers.take(address(number), page, told.now);
    }
    assert_eq!(told.view().load(&name("echo")), Load { kept: 7, ..Load::default() });
    assert!(!told.view().is_busy());
}
