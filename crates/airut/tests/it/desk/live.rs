//! How open pages are told of what changes.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use airut_testkit::eventually;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    time::timeout,
};

use super::{Answer, COOKIE, Desk, Visitor, down::desk_ahead};
use crate::support::{Data, Exchange, PATIENCE, dev, persons};

/// A stream of events.
struct Live {
    lines: Lines<BufReader<OwnedReadHalf>>,
    _open: OwnedWriteHalf,
}

/// An event as it came.
#[derive(Debug, Default)]
struct Event {
    name: String,
    id: String,
    data: Vec<String>,
}

impl Live {
    /// Opens it for a page that knows of the changes up to this one; `header` is one more.
    async fn open(visitor: &Visitor, told: &str, header: &str) -> Self {
        let (status, mut live) = Self::asked(visitor, told, header).await;
        assert!(status.contains(" 200 "), "{status}");
        while !live.line().await.is_empty() {}
        live
    }

    /// How it is answered.
    async fn status(visitor: &Visitor, told: &str) -> String {
        Self::asked(visitor, told, "").await.0
    }

    async fn asked(visitor: &Visitor, told: &str, header: &str) -> (String, Self) {
        let Visitor { address, cookie, .. } = visitor;
        let mut stream = TcpStream::connect(address).await.expect("the desk listens");
        let asked = format!(
            "GET /en/live?told={told} HTTP/1.0\r\nhost: {address}\r\ncookie: {COOKIE}={cookie}\r\n{header}\r\n"
        );
        stream.write_all(asked.as_bytes()).await.expect("it is asked");
        let (from, open) = stream.into_split();
        let mut live = Self { lines: BufReader::new(from).lines(), _open: open };
        (live.line().await, live)
    }

    async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("it says something");
        line.expect("it goes on").expect("it does not end")
    }

    async fn event(&mut self) -> Event {
        let mut event = Event::default();
        loop {
            let line = self.line().await;
            match line.split_once(": ") {
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("id", id)) => event.id = id.to_owned(),
                Some(("data", data)) => event.data.push(data.to_owned()),
                _ if line.is_empty() => return event,
                _ => panic!("{line}"),
            }
        }
    }
}

/// The number of the newest change that a page shows.
fn told(page: &Answer) -> String {
    let text = page.text();
    let (_, after) = text.split_once("data-told=\"").expect("it knows");
    after.split_once('"').expect("it is an attribute").0.to_owned()
}

#[tokio::test]
async fn an_open_page_is_told_of_what_it_has_missed_and_of_nothing_twice() {
    let desk = Desk::start().await;
    let (aino, vaino) = (desk.visitor("aino").await, desk.visitor("vaino").await);
    let before = told(&vaino.get("/en/requests").await);
    let request = aino.ask(&desk.person(0), "What has been granted?").await;
    eventually(PATIENCE, async || vaino.get("/en/requests").await.text().contains(&request)).await;

    // It comes between the page and its stream.
    let line = request.replacen("/requests/", "requests:", 1);
    let mut live = Live::open(&vaino, &before, "").await;
    let missed = live.event().await;
    assert_eq!((missed.name.as_str(), missed.data.contains(&line)), ("changes", true), "{missed:?}");
    assert!(missed.id.parse::<u64>().unwrap() > before.parse().unwrap(), "{missed:?}");

    // A browser that connects anew says what it was told, whatever the page says.
    let mut again = Live::open(&vaino, &before, &format!("last-event-id: {}\r\n", missed.id)).await;
    let nothing = again.event().await;
    assert_eq!((nothing.name.as_str(), nothing.data), ("changes", vec!["-".to_owned()]));

    // What one reads oneself is no news to the page that shows it.
    let page = vaino.get(&format!("/en{request}")).await;
    let read = Live::open(&vaino, &told(&page), "").await.event().await;
    assert!(!read.data.contains(&line), "{read:?}");

    // What comes later is told to those who are connected.
    vaino.act(&request, "respond", &[("answer", "Nothing.")]).await;
    while !again.event().await.data.contains(&line) {}

    // Nobody knows what has changed since the desk was another process.
    for long_ago in ["0", "1", "99999999999999999"] {
        let anything = Live::open(&vaino, long_ago, "").await.event().await;
        assert_eq!(anything.data, ["anything"], "{long_ago:?}");
    }
}

#[tokio::test]
async fn what_changes_much_is_told_together() {
    const REQUESTS: usize = 20;
    let desk = Desk::start().await;
    let (aino, vaino) = (desk.visitor("aino").await, desk.visitor("vaino").await);
    let mut live = Live::open(&vaino, &told(&vaino.get("/en/").await), "").await;
    live.event().await;

    let began = Instant::now();
    let asking = async {
        let mut asked = BTreeSet::new();
        for number in 0..REQUESTS {
            let request = aino.ask(&desk.person(number), "What has been granted?").await;
            asked.insert(request.replacen("/requests/", "requests:", 1));
        }
        asked
    };
    let hearing = async {
        let (mut heard, mut times) = (BTreeSet::new(), 0);
        while heard.len() < REQUESTS {
            let event = live.event().await;
            if event.name == "changes" {
                times += 1;
                heard.extend(event.data.into_iter().filter(|line| line.starts_with("requests:")));
            }
        }
        (heard, times)
    };
    let (asked, (heard, times)) = tokio::join!(asking, hearing);

    assert_eq!(heard, asked);
    // The first of them at once, then one in two seconds at most.
    let most = 1 + began.elapsed().as_secs() / 2;
    assert!(times <= most, "{times} times in {:?}", began.elapsed());
}

#[tokio::test]
async fn one_session_leaves_room_for_the_pages_of_others() {
    let desk = Desk::start().await;
    let (aino, eero) = (desk.visitor("aino").await, desk.visitor("eero").await);
    let told = told(&aino.get("/en/").await);
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(Live::open(&aino, &told, "").await);
    }

    assert_eq!(aino.get("/en/live").await.status, 503);
    Live::open(&eero, &told, "").await.event().await;
    // A page that is left makes room.
    open.pop();
    eventually(PATIENCE, async || Live::status(&aino, &told).await.contains(" 200 ")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_before_the_eyes_of_its_official_however_much_happens() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let minutes = Arc::new(AtomicU32::new(0));
    let desk = desk_ahead(&exchange, &data, Arc::clone(&minutes)).await;
    let (aino, eero) = (Visitor::at(desk.address(), "aino").await, Visitor::at(desk.address(), "eero").await);
    let person = persons(data.path()).swap_remove(0);
    let mut live = Live::open(&aino, &told(&aino.get("/en/").await), "").await;
    minutes.fetch_add(29, Ordering::Relaxed);
    eero.get("/en/").await;
    minutes.fetch_add(2, Ordering::Relaxed);

    // Eero's session runs on, and something changes more often than streams beat.
    let over = async { while live.event().await.name != "over" {} };
    let busy = async {
        loop {
            eero.ask(&person, "What has been granted?").await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let told = async {
        tokio::select! {
            () = over => {}
            never = busy => never,
        }
    };
    timeout(PATIENCE, told).await.expect("the session ends");
    // Whoever has no session is told nothing more.
    let after = timeout(PATIENCE, live.lines.next_line()).await.expect("it ends");
    assert_eq!(after.expect("in good order"), None);
    desk.stop().await;
}
