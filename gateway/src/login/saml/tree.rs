//! A parsed document, with the few questions that SAML asks of one.

use uppsala::{Document, NodeId, Parser};

use super::plain_xml::{self, Comments, DEPTH_MAX};

/// A parsed document.
pub(super) struct Tree<'t> {
    pub(super) document: Document<'t>,
    pub(super) text: &'t str,
    root: NodeId,
}

impl<'t> Tree<'t> {
    /// Checks and parses a text.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words that continue "the message".
    pub(super) fn parse(text: &'t [u8], comments: Comments) -> Result<Self, String> {
        let text = plain_xml::check(text, comments).map_err(|unfit| unfit.to_string())?;
        let depth = u32::try_from(DEPTH_MAX).unwrap_or(u32::MAX).saturating_add(1);
        let parser = Parser::new().with_max_depth(depth).with_forbid_dtd(true).with_forbid_entities(true);
        let document = parser.parse(text).map_err(|_| "it is not well-formed XML".to_owned())?;
        let root = document.document_element().ok_or("it has no element")?;
        Ok(Self { document, text, root })
    }

    pub(super) fn root(&self) -> NodeId {
        self.root
    }

    /// True when it is an element of this name.
    pub(super) fn is(&self, node: NodeId, space: &str, name: &str) -> bool {
        self.document.element(node).is_some_and(|element| element.matches_name_ns(space, name))
    }

    /// All elements of this name, wherever they are.
    pub(super) fn all(&self, space: &str, name: &str) -> Vec<NodeId> {
        self.elements().filter(|node| self.is(*node, space, name)).collect()
    }

    /// All elements, the root first.
    pub(super) fn elements(&self) -> impl Iterator<Item = NodeId> {
        let all = std::iter::once(self.root).chain(self.document.descendants(self.root));
        all.filter(|node| self.document.element(*node).is_some())
    }

    /// The elements right inside of one.
    pub(super) fn children(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        self.document.children_iter(node).filter(|child| self.document.element(*child).is_some())
    }

    /// Those of them that have this name.
    pub(super) fn named<'s>(
        &'s self,
        node: NodeId,
        space: &'s str,
        name: &'s str,
    ) -> impl Iterator<Item = NodeId> + 's {
        self.children(node).filter(move |child| self.is(*child, space, name))
    }

    /// The one element of this name right inside of one. `Err`: there are several.
    pub(super) fn only(&self, node: NodeId, space: &str, name: &str) -> Result<Option<NodeId>, String> {
        let mut found = self.named(node, space, name);
        let first = found.next();
        if found.next().is_some() { Err(format!("there is more than one {name}")) } else { Ok(first) }
    }

    /// As [`Tree::only`], where it cannot be missing.
    pub(super) fn required(&self, node: NodeId, space: &str, name: &str) -> Result<NodeId, String> {
        self.only(node, space, name)?.ok_or_else(|| format!("there is no {name}"))
    }

    /// The value of an attribute without a name space.
    pub(super) fn attribute(&self, node: NodeId, name: &str) -> Option<&str> {
        let attributes = &self.document.element(node)?.attributes;
        let own = attributes.iter().find(|one| one.name.namespace_uri.is_none() && *one.name.local_name == *name);
        own.map(|one| &*one.value)
    }

    /// The text of an element that has nothing but text in it, without white space around it. `None`: there are elements.
    pub(super) fn content(&self, node: NodeId) -> Option<String> {
        let is_text = self.children(node).next().is_none();
        is_text.then(|| self.document.text_content_deep(node).trim().to_owned())
    }
}
