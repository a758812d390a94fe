//! Processes that do not outlive the one that started them, however that ends.

use std::{
    io,
    process::{Child, Command},
    sync::{OnceLock, mpsc},
    thread,
};

type Spawned = mpsc::Sender<io::Result<Child>>;

/// Spawns from a thread that lives as long as this process. The kernel kills the child of `setpriv --pdeathsig` when
/// the *thread* that forked it ends, and a test's thread ends with the test.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<(Command, Spawned)>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, commands) = mpsc::channel::<(Command, Spawned)>();
        thread::spawn(move || {
            for (mut command, spawned) in commands {
                // Who asked waits for it.
                let _ = spawned.send(command.spawn());
            }
        });
        sender
    });
    let (spawned, child) = mpsc::channel();
    spawner.send((command, spawned)).expect("the thread lives as long as the process");
    child.recv().expect("the thread lives as long as the process")
}
