//! What binplz is, without any I/O. The modules stand in reading order: names, what is asked, what is built, the state
//! machine, the roles that the world fills, the stories told over them, the words that people read, and the news that operators hear.

pub mod text;
pub mod time;

pub mod key;
pub mod target;
pub mod wait;

pub mod artifact;
pub mod catalogue;
pub mod failure;
pub mod gzip;
pub mod narinfo;
pub mod pins;
pub mod policy;
pub mod protocol;
pub mod size;

pub mod build;
pub mod client;
pub mod derivation;
pub mod failed_dependencies;
pub mod limits;
pub mod prices;
pub mod profile;
pub mod served;

pub mod bill;
pub mod cost;
pub mod gc;
pub mod row;

pub mod flow;
pub mod ports;

pub mod page;
pub mod problem;
pub mod reply;
pub mod shell;
pub mod stub;

pub mod telemetry;
