//! Fields that hold lists, and objects of many entries.

use std::ops::RangeInclusive;

use serde_json::Value;

use super::super::error::{CONFIG, EXPRESSION};
use super::super::expression::Expression;
use super::super::template::Template;
use super::{Fields, MUST_BE_TEXT};

impl<'a> Fields<'a> {
    /// The texts of a list with their places; a lone text counts as a list of one.
    pub(in crate::policy) fn list(
        &mut self,
        name: &'static str,
        count: RangeInclusive<usize>,
        over_max: u32,
    ) -> Vec<(usize, &'a str)> {
        let mut texts = Vec::new();
        for (index, value) in self.items(name, count, over_max) {
            match value {
                Value::String(text) => texts.push((index, text.as_str())),
                other => self.findings.add(self.path.key(name).index(index), other, CONFIG, MUST_BE_TEXT),
            }
        }
        texts
    }

    /// As [`Fields::list`], of texts that may have `${…}` in them.
    pub(in crate::policy) fn template_list(
        &mut self,
        name: &'static str,
        count: RangeInclusive<usize>,
        over_max: u32,
    ) -> Vec<(usize, Template)> {
        let base = self.path;
        let path = base.key(name);
        let items = self.items(name, count, over_max);
        items.filter_map(|(index, value)| Some((index, self.compile(path.index(index), value, true)?))).collect()
    }

    /// As [`Fields::template_list`], of texts that no error may show.
    pub(in crate::policy) fn secret_list(
        &mut self,
        name: &'static str,
        count: RangeInclusive<usize>,
        over_max: u32,
    ) -> Vec<(usize, Template)> {
        self.secrets.push(name);
        let base = self.path;
        let path = base.key(name);
        let items = self.items(name, count, over_max);
        items.filter_map(|(index, value)| Some((index, self.compile(path.index(index), value, false)?))).collect()
    }

    /// As [`Fields::list`], of expressions.
    pub(in crate::policy) fn expression_list(
        &mut self,
        name: &'static str,
        count: RangeInclusive<usize>,
        over_max: u32,
    ) -> Vec<Expression> {
        let mut expressions = Vec::new();
        for (index, text) in self.list(name, count, over_max) {
            match Expression::compile(text, self.scope) {
                Ok(expression) => expressions.push(expression),
                Err(mistake) => self.wrong_item(name, index, EXPRESSION, mistake),
            }
        }
        expressions
    }

    /// An object of texts that may have `${…}` in them.
    pub(in crate::policy) fn templates(
        &mut self,
        name: &'static str,
        count: RangeInclusive<usize>,
        over_max: u32,
    ) -> Vec<(&'a str, Template)> {
        let base = self.path;
        let path = base.key(name);
        let map = match self.value(name) {
            None if *count.start() > 0 => {
                self.findings.add_bare(path, CONFIG, "is missing: it must be an object of texts");
                return Vec::new();
            }
            None => return Vec::new(),
            Some(Value::Object(map)) => map,
            Some(other) => {
                self.findings.add(path, other, CONFIG, "must be an object of texts");
                return Vec::new();
            }
        };
        if !self.is_count(name, map.len(), &count, over_max) {
            return Vec::new();
        }
        map.iter().filter_map(|(key, value)| Some((key.as_str(), self.compile(path.key(key), value, true)?))).collect()
    }

    /// As [`Fields::templates`]; values without quotes count as texts.
    pub(in crate::policy) fn scalar_templates(
        &mut self,
        name: &'static str,
        count: RangeInclusive<usize>,
        over_max: u32,
    ) -> Vec<(&'a str, Template)> {
        let takes_scalars = std::mem::replace(&mut self.takes_scalars, true);
        let templates = self.templates(name, count, over_max);
        self.takes_scalars = takes_scalars;
        templates
    }

    /// A list of objects with one entry each; a lone object counts as well.
    pub(in crate::policy) fn single_entries(
        &mut self,
        name: &'static str,
        count: RangeInclusive<usize>,
        over_max: u32,
    ) -> Vec<(usize, &'a str, &'a Value)> {
        let base = self.path;
        let path = base.key(name);
        let mut entries = Vec::new();
        for (index, value) in self.items(name, count, over_max) {
            let path = path.index(index);
            let Value::Object(map) = value else {
                self.findings.add(path, value, CONFIG, "must be an object with one entry");
                continue;
            };
            if map.len() != 1 {
                self.findings.add(path, value, CONFIG, "must have one entry: write the others as items of their own");
            }
            entries.extend(map.iter().map(|(key, value)| (index, key.as_str(), value)));
        }
        entries
    }

    /// True when a list is there and has something in it.
    pub(in crate::policy) fn has_items(&mut self, name: &'static str) -> bool {
        self.value(name).is_some_and(|value| value.as_array().is_none_or(|list| !list.is_empty()))
    }

    /// The items of a list with their places, if their number is right.
    fn items(
        &mut self,
        name: &'static str,
        count: RangeInclusive<usize>,
        over_max: u32,
    ) -> impl Iterator<Item = (usize, &'a Value)> + use<'a> {
        let items = match self.value(name) {
            None => &[],
            Some(Value::Array(list)) => list.as_slice(),
            Some(single) => std::slice::from_ref(single),
        };
        let is_right = self.is_count(name, items.len(), &count, over_max);
        items.iter().enumerate().filter(move |_| is_right)
    }

    fn is_count(&mut self, name: &'static str, len: usize, count: &RangeInclusive<usize>, over_max: u32) -> bool {
        if count.contains(&len) {
            return true;
        }
        let (least, most) = (count.start(), count.end());
        if len < *least {
            self.findings.add_bare(self.path.key(name), CONFIG, format!("needs {least} entry at least"));
        } else {
            let message = format!("has {len} entries: at most {most} are possible");
            self.findings.add_bare(self.path.key(name), over_max, message);
        }
        false
    }
}
