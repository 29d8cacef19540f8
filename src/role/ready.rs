//! What a server prints on stdout when it can be used: where it listens, where the data is, how
//! much room there is, and a command that works. The last line is `ready`, for programs that wait.

use std::{fmt::Write, net::SocketAddr, path::Path};

use dulse_shared::{size::ByteSize, wire::DirReport};

/// The lines, in the order they were added.
#[derive(Default)]
pub(crate) struct ReadyText {
    text: String,
}

impl ReadyText {
    /// A role and its two ports.
    pub(crate) fn listener(
        &mut self,
        role: &str,
        host: &str,
        public: SocketAddr,
        cluster: SocketAddr,
    ) {
        let url = format!("http://{host}:{}", public.port());
        self.line(role, &format!("{url}   cluster port {cluster}"));
    }

    /// Where a master keeps the cluster's state.
    pub(crate) fn state(&mut self, dir: &Path) {
        self.line("state", &dir.display().to_string());
    }

    /// Data directories and their room.
    pub(crate) fn room(&mut self, dirs: &[DirReport]) {
        for dir in dirs {
            self.line("data", &format!("{}   {}", dir.dir, room_of(dir)));
        }
    }

    /// A command to try.
    pub(crate) fn attempt(&mut self, command: &str) {
        self.line("try", command);
    }

    fn line(&mut self, name: &str, text: &str) {
        // Writing into a String cannot fail.
        let _ = writeln!(self.text, "{name:<14} {text}");
    }

    /// Prints everything and the last line.
    pub(crate) fn print(mut self) {
        use std::io::Write as _;
        self.text.push_str("ready\n");
        let mut stdout = std::io::stdout().lock();
        // A server whose reader went away still serves.
        let _ = stdout.write_all(self.text.as_bytes());
        let _ = stdout.flush();
    }
}

/// What a directory holds and may hold, or why it is not used.
fn room_of(dir: &DirReport) -> String {
    if let Some(trouble) = &dir.trouble {
        return format!("cannot be used: {trouble}");
    }
    let (free, kept) = (ByteSize(dir.free_bytes), ByteSize(dir.min_free_bytes));
    let low = if dir.is_low { ", too little for new data" } else { "" };
    let (volumes, most) = (dir.volumes, dir.max_volumes);
    format!("{free} free of which {kept} stay so{low}, {volumes} of {most} volumes")
}

/// The host of a URL that works on this machine.
pub(crate) fn reachable_host(public: SocketAddr) -> String {
    match public {
        address if !address.ip().is_unspecified() => match address {
            SocketAddr::V4(v4) => v4.ip().to_string(),
            SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        },
        SocketAddr::V4(_) => "127.0.0.1".to_owned(),
        SocketAddr::V6(_) => "[::1]".to_owned(),
    }
}
