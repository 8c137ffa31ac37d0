//! Numbers for rows, keys, objects and contents, so that states are small. Equal values have equal numbers.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard},
};

use binplz_core::{
    id::{key::Sha256, time::Timestamp},
    objects::artifact::ObjectPath,
    row::{Row, RowKey, StatusIndex},
};

/// A number for each value.
#[derive(Debug)]
pub(crate) struct Table<T> {
    numbers: HashMap<T, u32>,
    values: Vec<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { numbers: HashMap::new(), values: Vec::new() }
    }
}

impl<T: Clone + Eq + Hash> Table<T> {
    /// The value's number.
    pub(crate) fn number(&mut self, value: &T) -> u32 {
        if let Some(known) = self.numbers.get(value) {
            return *known;
        }
        let number = u32::try_from(self.values.len()).expect("fewer values");
        self.numbers.insert(value.clone(), number);
        self.values.push(value.clone());
        number
    }

    /// The value of a number.
    pub(crate) fn value(&self, number: u32) -> &T {
        &self.values[number as usize]
    }
}

/// A row's content.
#[derive(Debug)]
pub(crate) struct Content {
    /// The row.
    pub(crate) row: Row,
    /// The number of its key.
    pub(crate) key: u32,
    /// Its place in an index.
    pub(crate) index: Option<(StatusIndex, Timestamp)>,
}

/// All numbers of an exploration.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Keys of rows.
    pub(crate) keys: Table<RowKey>,
    /// Places of objects.
    pub(crate) objects: Table<String>,
    /// A path that leads to each place.
    pub(crate) paths: HashMap<u32, ObjectPath>,
    /// Contents of objects.
    contents: Table<Vec<u8>>,
    sums: Vec<(Sha256, u64)>,
    rows: HashMap<(u32, String), u32>,
    all_rows: Vec<Content>,
}

impl Names {
    /// A row's number.
    pub(crate) fn row(&mut self, row: &Row) -> u32 {
        let key = self.keys.number(&row.key());
        let name = (key, row.to_json().expect("JSON"));
        if let Some(known) = self.rows.get(&name) {
            return *known;
        }
        let number = u32::try_from(self.all_rows.len()).expect("fewer rows");
        let index = if let Row::Build(build) = row { build.status_index() } else { None };
        self.all_rows.push(Content { row: row.clone(), key, index });
        self.rows.insert(name, number);
        number
    }

    /// The row of a number.
    pub(crate) fn row_of(&self, number: u32) -> &Content {
        &self.all_rows[number as usize]
    }

    /// An object's number.
    pub(crate) fn object(&mut self, path: &ObjectPath) -> u32 {
        let number = self.objects.number(&path.location());
        self.paths.entry(number).or_insert_with(|| path.clone());
        number
    }

    /// A content's number.
    pub(crate) fn content(&mut self, bytes: &Vec<u8>) -> u32 {
        let number = self.contents.number(bytes);
        if number as usize == self.sums.len() {
            self.sums.push((Sha256::of(bytes), bytes.len() as u64));
        }
        number
    }

    /// The content of a number.
    pub(crate) fn bytes(&self, number: u32) -> &Vec<u8> {
        self.contents.value(number)
    }

    /// The sha256 and the size of a content.
    pub(crate) fn sum(&self, number: u32) -> &(Sha256, u64) {
        &self.sums[number as usize]
    }
}

/// The same, where futures share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Mutex<Names>>);

impl Shared {
    /// Held for one call only.
    pub(crate) fn get(&self) -> MutexGuard<'_, Names> {
        self.0.lock().expect("a lock")
    }
}
