//! An invented package set of nixpkgs' size, with similar names. The same seed gives the same set on any machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

/// Well-known names, the models for new ones, letter by letter.
const MODELS: &str = "ripgrep imagemagick coreutils procps ffmpeg graphicsmagick postgresql neovim tmux htop btop curl wget \
    gnugrep gnused gawk findutils diffutils openssh openssl libressl gnutls nettle libgcrypt cryptsetup lvm2 mdadm parted \
    smartmontools hdparm pciutils usbutils dmidecode lshw inxi neofetch fastfetch starship zoxide fzf skim bat exa lsd fd \
    delta tokei hyperfine bandwhich bottom procs dust duf ncdu rclone rsync restic borgbackup duplicity syncthing unison \
    mercurial subversion darcs pijul fossil gitui lazygit tig jujutsu kubernetes-helm kubectl minikube terraform packer \
    vault consul nomad ansible salt puppet chef vagrant podman buildah skopeo containerd runc crun docker-compose qemu \
    virtmanager libvirt wireshark tcpdump nmap masscan iperf mtr traceroute dnsutils unbound bind knot nsd powerdns \
    nginx apache haproxy varnish squid caddy traefik envoy prometheus grafana influxdb telegraf loki mosquitto rabbitmq \
    redis memcached mariadb sqlite duckdb mongodb cassandra elasticsearch kafka zookeeper spark hadoop flink airflow \
    blender inkscape gimp krita darktable rawtherapee audacity ardour lmms mixxx musescore lilypond timidity fluidsynth \
    evince okular zathura mupdf poppler qpdf pdftk ghostscript texlive pandoc asciidoctor sphinx doxygen graphviz \
    plantuml gnuplot octave scilab maxima sage pari giac gap macaulay julia ghc ocaml rustc cargo golang nodejs deno \
    python ruby perl lua guile racket chez sbcl clojure scala kotlin gradle maven ant bazel meson ninja cmake autoconf \
    automake libtool pkgconf bison flex gperf swig valgrind gdb lldb strace ltrace perf bcc bpftrace sysstat dstat \
    iotop nethogs iftop vnstat speedtest transmission deluge rtorrent aria2 youtube mpv vlc mplayer cmus moc ncmpcpp \
    mutt neomutt aerc notmuch offlineimap isync msmtp postfix dovecot exim opensmtpd rspamd spamassassin clamav weechat \
    irssi hexchat quassel profanity gajim dino pidgin telegram signal element nheko xterm alacritty kitty wezterm foot \
    sway hyprland i3status polybar waybar dmenu rofi wofi dunst mako picom feh sxiv scrot maim flameshot xclip xsel \
    zsh fish dash mksh busybox toybox elvish nushell xonsh hexyl hexedit binwalk radare2 ghidra rizin cutter john hashcat \
    aircrack kismet reaver hydra sqlmap nikto metasploit zig nim crystal dmd ldc fpc vala gleam elixir erlang rebar unzip \
    lz4 zstd xz bzip2 pigz lzip lrzip p7zip unrar cabextract cpio pax rpm dpkg flatpak snapd appimage wine dosbox scummvm \
    retroarch mednafen dolphin mame nethack angband crawl freeciv wesnoth openttd supertux minetest teeworlds xonotic";

/// The parts of real names.
const AFFIXES: &str = "lib py rust go gtk qt json yaml xml http web net sys dev core tools utils cli gui server client daemon \
    manager viewer editor parser compiler plugin theme icons fonts docs data base extra mini micro nano full light git \
    ssh ssl tls dns mail chat music video image pdf text shell term wayland x11 gnome kde xfce aws azure gcp k8s docker \
    db sql graph ml ai test mock types async proxy cache queue log trace bench fmt lint lsp sdk api bin exporter operator";

/// The suffixes of a package's further programs.
const SIBLINGS: &str = "ctl d config tool info dump check convert server client admin conf gen list show merge split diff \
    test edit view stat sync import export query shell daemon agent proxy bench repair compile link format";

/// The sets in a nixpkgs, and their share of all attributes, in thousandths.
const SETS: [(&str, usize); 14] = [
    ("", 290),
    ("haskellPackages", 150),
    ("rPackages", 170),
    ("python312Packages", 85),
    ("python313Packages", 85),
    ("emacsPackages", 50),
    ("texlivePackages", 40),
    ("perlPackages", 30),
    ("vimPlugins", 25),
    ("gnomeExtensions", 20),
    ("ocamlPackages", 20),
    ("rubyPackages", 15),
    ("kdePackages", 10),
    ("luaPackages", 10),
];

/// A package.
pub(crate) struct Package {
    /// Its attribute path.
    pub(crate) attr: String,
    /// Its programs, the main one first if there is one.
    pub(crate) programs: Vec<String>,
    /// Whether it declares its main program.
    pub(crate) declares: bool,
    /// A random number, from which its other properties follow.
    pub(crate) luck: u64,
}

/// Random numbers by splitmix64, which is short and never changes.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap_or(0)
    }

    /// One of the given values.
    pub(crate) fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// The most frequent words of descriptions, the most frequent one first.
static VOCABULARY: LazyLock<Vec<&str>> = LazyLock::new(|| {
    const COMMON: &str =
        "a for and of the library simple fast tool command line interface files reading network written in with";
    [COMMON, AFFIXES, SIBLINGS, MODELS].into_iter().flat_map(str::split_whitespace).collect()
});

/// A description of eight words. As in a language, the nth most frequent word is about as frequent as 1/n.
pub(crate) fn description(random: &mut Random) -> String {
    let all = &*VOCABULARY;
    let word = |random: &mut Random| {
        // Uniform in its logarithm.
        let at = 1 << random.below(15);
        let at = at - 1 + random.below(at);
        match at / all.len() {
            0 => all[at].to_owned(),
            n => format!("{}{n}", all[at % all.len()]),
        }
    };
    (0..8).map(|_| word(random)).collect::<Vec<_>>().join(" ")
}

/// Makes names.
struct Namer {
    models: Vec<&'static str>,
    /// The letters that follow two letters in the models.
    followers: BTreeMap<&'static str, Vec<char>>,
    affixes: Vec<&'static str>,
    siblings: Vec<&'static str>,
}

impl Namer {
    fn new() -> Namer {
        let words = |text: &'static str| text.split_whitespace().collect();
        let models: Vec<&'static str> = words(MODELS);
        let mut followers: BTreeMap<_, Vec<char>> = BTreeMap::new();
        for model in &models {
            for at in 2..model.len() {
                followers.entry(&model[at - 2..at]).or_default().extend(model[at..].chars().next());
            }
        }
        Namer { models, followers, affixes: words(AFFIXES), siblings: words(SIBLINGS) }
    }

    /// An invented word: each letter follows two that it follows in a model.
    fn word(&self, random: &mut Random) -> String {
        let mut word = random.one(&self.models)[..2].to_owned();
        let length = 4 + random.below(6);
        while word.len() < length {
            match self.followers.get(&word[word.len() - 2..]) {
                Some(next) => word.push(next[random.below(next.len())]),
                None => break,
            }
        }
        word
    }

    /// A package's name: a word, perhaps with affixes or numbers.
    fn package(&self, random: &mut Random) -> String {
        let word = self.word(random);
        match random.below(20) {
            0..=6 => word,
            7 | 8 => format!("lib{word}"),
            9..=12 => format!("{word}-{}", random.one(&self.affixes)),
            13 => format!("{}-{word}", random.one(&self.affixes)),
            14 => format!("{word}{}", random.below(10)),
            15 => format!("{word}_{}", random.below(30)),
            16 => format!("{word}-{}", self.word(random)),
            17 => format!("{}-{word}-{}", random.one(&self.affixes), random.one(&self.affixes)),
            18 => format!("{}{word}", word[..1].to_uppercase()),
            _ => format!("_{}{word}", random.below(10)),
        }
    }

    /// A further program of a package called `leaf`.
    fn sibling(&self, random: &mut Random, leaf: &str) -> String {
        match random.below(8) {
            0 | 1 => format!("{leaf}-{}", random.one(&self.siblings)),
            2 => format!("{leaf}{}", random.one(&self.siblings)),
            3 => format!("{}-{leaf}", random.one(&self.affixes)),
            4 => format!("{leaf}-{}", self.word(random)),
            5 => format!("{leaf}.{}", random.below(40)),
            _ => self.package(random),
        }
    }
}

/// A set of so many attributes that ship so many programs of different names (and a few more with a name that another
/// package uses).
pub(crate) fn set(seed: u64, attributes: usize, programs: usize) -> Vec<Package> {
    let (namer, mut random) = (Namer::new(), Random(seed));
    let mut packages = Vec::with_capacity(attributes);
    let (mut attrs, mut names) = (BTreeSet::new(), BTreeSet::new());
    let (mut parts, all) = (0, SETS.iter().map(|(_, part)| part).sum::<usize>());
    for (set, part) in SETS {
        parts += part;
        let until = attributes * parts / all;
        while attrs.len() < until {
            let leaf = namer.package(&mut random);
            let attr = if set.is_empty() { leaf } else { format!("{set}.{leaf}") };
            if attrs.insert(attr.clone()) {
                let luck = random.next();
                packages.push(Package { attr, programs: Vec::new(), declares: luck.is_multiple_of(3), luck });
            }
        }
    }
    while names.len() < programs {
        let at = random.below(packages.len());
        let package = &mut packages[at];
        let leaf = package.attr.rsplit('.').next().unwrap_or_default().to_owned();
        // Most packages of a language's set are libraries.
        if package.attr.contains('.') && !package.luck.is_multiple_of(8) {
            continue;
        }
        if package.programs.is_empty() && !package.luck.is_multiple_of(5) {
            names.insert(leaf.clone());
            package.programs.push(leaf.clone());
        }
        // Some ship one program, some a hundred.
        let more = [0, 0, 1, 2, 4, 9][random.below(6)] * if random.below(50) == 0 { 10 } else { 1 };
        for _ in 0..more {
            let name = namer.sibling(&mut random, &leaf);
            if names.len() < programs && !package.programs.contains(&name) {
                names.insert(name.clone());
                package.programs.push(name);
            }
        }
    }
    packages
}
