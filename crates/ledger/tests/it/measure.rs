use crate::support::*;
use std::time::Instant;
fn rss() -> u64 { std::fs::read_to_string("/proc/self/status").unwrap().lines().find(|l| l.starts_with("VmRSS")).unwrap().split_whitespace().nth(1).unwrap().parse().unwrap() }
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measure() {
    let n: u64 = std::env::var("N").unwrap().parse().unwrap();
    let bench = Bench::new();
    let log = bench.log();
    let t = Instant::now();
    for c in 0..n / 5000 { fill(&log, c * 5000..(c + 1) * 5000).await; }
    println!("filled {n} in {:?} rss {}", t.elapsed(), rss());
    let t = Instant::now();
    let running = bench.ledger(&log);
    running.signed(n).await;
    println!("cold catch-up {:?} = {:.0}/s rss {}", t.elapsed(), n as f64 / t.elapsed().as_secs_f64(), rss());
    let t = Instant::now();
    for c in 0..n / 5000 { fill(&log, n + c * 5000..n + (c + 1) * 5000).await; }
    let tf = t.elapsed();
    running.signed(2 * n).await;
    println!("live fill {tf:?}, signed {:?} rss {}", t.elapsed(), rss());
    running.stop().await;
    drop(log);
    println!("file {} bytes/leaf", std::fs::metadata(bench.ledger_dir().join("ledger.sqlite")).unwrap().len() / (2 * n));
    std::fs::remove_file(bench.ledger_dir().join("ledger.sqlite")).unwrap();
    let log = bench.log();
    let t = Instant::now();
    let running = bench.ledger(&log);
    running.signed(2 * n).await;
    println!("rebuild {:?} = {:.0}/s rss {}", t.elapsed(), 2.0 * n as f64 / t.elapsed().as_secs_f64(), rss());
    running.stop().await;
    drop(log);
    let log = airut_log::Log::embedded_read_only(bench.dir.path().join("log.sqlite")).unwrap();
    let t = Instant::now();
    let r = airut_ledger::verify(&log, &bench.ledger_dir(), Default::default()).await.unwrap();
    println!("verify {:?} = {:.0}/s rss {} sound {} {}", t.elapsed(), 2.0 * n as f64 / t.elapsed().as_secs_f64(), rss(), r.is_sound(), r.entries);
}
