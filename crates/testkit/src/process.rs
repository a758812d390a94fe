//! Processes that do not outlive the one that started them, however that ends.

use std::{
    env, fs, io,
    path::Path,
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

/// Removes temporary directories, called so and then for the process's id, that processes left which ended without dropping
/// what lives in them, as those do that keep it in a static.
pub(crate) fn sweep(prefix: &str) {
    let Ok(entries) = fs::read_dir(env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(prefix)) else { continue };
        let Some((process, _)) = rest.split_once('-') else { continue };
        if !Path::new("/proc").join(process).exists() {
            // Another process may be sweeping too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
