//! Where the Maildir of a user is: a path with placeholders that no user's name can lead out of.

use crate::source::names::rulebook::Folders;
use std::fmt;
use std::path::{Path, PathBuf};

/// The whole name.
const USER: &str = "{user}";
/// What stands before the name's last `@`, or all of it.
const LOCAL_PART: &str = "{local-part}";
/// What stands behind the name's last `@`.
const DOMAIN: &str = "{domain}";

/// An absolute path with `{user}`, or with `{local-part}` and perhaps `{domain}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Box<str>);

/// Why a user has no Maildir by a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A part of the name would change the path: it is empty, starts with a dot, or holds `/` or NUL.
    #[error("the name is empty, starts with a dot, or holds a slash")]
    Unfit,
    /// `{domain}` of a name without `@`.
    #[error("the path needs a domain and the name has none")]
    NoDomain,
}

impl Template {
    /// `None` where the text is not absolute, goes up (`..`), or has no placeholder that tells users apart.
    pub fn parse(text: &str) -> Option<Self> {
        let path = Path::new(text);
        let rest = text.replace(USER, "").replace(LOCAL_PART, "").replace(DOMAIN, "");
        let is_fit = path.is_absolute()
            && !path.components().any(|part| part.as_os_str() == "..")
            && !rest.contains(['{', '}', '\0'])
            && (text.contains(USER) || text.contains(LOCAL_PART));
        is_fit.then(|| Self(text.into()))
    }

    /// The Maildir of this user.
    ///
    /// # Errors
    /// [`Refused`], where the name would lead anywhere else than to one folder of its own.
    pub fn path(&self, user: &str) -> Result<PathBuf, Refused> {
        let (local_part, domain) = match user.rsplit_once('@') {
            Some((local_part, domain)) => (local_part, Some(domain)),
            None => (user, None),
        };
        if !is_fit(user) || !is_fit(local_part) || !domain.is_none_or(is_fit) {
            return Err(Refused::Unfit);
        }
        if self.0.contains(DOMAIN) && domain.is_none() {
            return Err(Refused::NoDomain);
        }
        let values = [(USER, user), (LOCAL_PART, local_part), (DOMAIN, domain.unwrap_or_default())];
        Ok(PathBuf::from(filled(&self.0, values)))
    }

    /// The user whose Maildir is there, if it is anyone's.
    pub fn user(&self, path: &Path) -> Option<String> {
        let found = Found::default().read(&self.0, path.to_str()?)?;
        let user = match found {
            Found { user: Some(user), .. } => user.to_owned(),
            Found { local_part: Some(local_part), domain: Some(domain), .. } => {
                format!("{local_part}@{domain}")
            }
            Found { local_part, .. } => local_part?.to_owned(),
        };
        (self.path(&user).as_deref() == Ok(path)).then_some(user)
    }

    /// The folders that lead to every user's Maildir, from the root down: one name, or `None` where names tell users apart.
    pub fn folders(&self) -> impl Iterator<Item = Option<&str>> {
        self.0.split('/').filter(|part| !part.is_empty()).map(|part| (!part.contains('{')).then_some(part))
    }
}

/// What a path says of its user.
#[derive(Clone, Copy, Default)]
struct Found<'p> {
    user: Option<&'p str>,
    local_part: Option<&'p str>,
    domain: Option<&'p str>,
}

impl<'p> Found<'p> {
    /// Reads `path` as the rest of a template says it, the longest values first.
    fn read(self, template: &str, path: &'p str) -> Option<Self> {
        let Some((before, hole)) = template.split_once('{') else {
            return (template == path).then_some(self);
        };
        let path = path.strip_prefix(before)?;
        let (name, after) = hole.split_once('}')?;
        let folder = path.find('/').unwrap_or(path.len());
        let ends = path
            .char_indices()
            .map(|(at, _)| at)
            .chain([path.len()])
            .filter(|end| (1..=folder).contains(end));
        let ends: Vec<usize> = ends.collect();
        ends.into_iter().rev().find_map(|end| {
            let (value, rest) = path.split_at(end);
            self.with(name, value)?.read(after, rest)
        })
    }

    /// `None` where the same placeholder stood for something else before.
    fn with(mut self, name: &str, value: &'p str) -> Option<Self> {
        let place = match name {
            "user" => &mut self.user,
            "local-part" => &mut self.local_part,
            _ => &mut self.domain,
        };
        let is_fit = place.is_none_or(|known| known == value);
        *place = Some(value);
        is_fit.then_some(self)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text with each placeholder's value: one pass, so that braces of a name are left alone.
fn filled(template: &str, values: [(&str, &str); 3]) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let found = values.iter().find_map(|(key, value)| {
            let key = key.strip_prefix('{')?;
            Some((*value, after.strip_prefix(key)?))
        });
        let (value, tail) = found.unwrap_or(("{", after));
        text.push_str(value);
        rest = tail;
    }
    text + rest
}

fn is_fit(part: &str) -> bool {
    !part.is_empty() && !part.starts_with('.') && !part.contains(['/', '\0'])
}

impl Folders for Template {
    fn refusal(&self, user: &str) -> Option<String> {
        self.path(user).err().map(|refused| refused.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_paths_that_tell_users_apart_are_templates() {
        for good in ["/var/mail/{user}/Maildir", "/{domain}/{local-part}", "/m/{local-part}"] {
            assert!(Template::parse(good).is_some(), "{good}");
        }
        for bad in
            ["", "{user}", "mail/{user}", "/var/mail", "/m/{domain}", "/m/../{user}", "/m/{home}/{user}"]
        {
            assert_eq!(Template::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_users_maildir_is_where_the_template_says_or_nowhere() {
        let cases: &[(&str, &str, Result<&str, Refused>)] = &[
            ("/m/{user}/Maildir", "u1", Ok("/m/u1/Maildir")),
            ("/m/{user}/Maildir", "u1@a.b", Ok("/m/u1@a.b/Maildir")),
            ("/m/{domain}/{local-part}", "u1@a.b", Ok("/m/a.b/u1")),
            ("/m/{domain}/{local-part}", "u1", Err(Refused::NoDomain)),
            ("/m/{local-part}", "u1", Ok("/m/u1")),
            ("/m/{user}", "{domain}", Ok("/m/{domain}")),
            ("/m/{user}", "{local-part}", Ok("/m/{local-part}")),
            ("/m/{domain}/{user}", "{user}@{domain}", Ok("/m/{domain}/{user}@{domain}")),
            ("/m/{user}", "", Err(Refused::Unfit)),
            ("/m/{user}", ".", Err(Refused::Unfit)),
            ("/m/{user}", "..", Err(Refused::Unfit)),
            ("/m/{user}", "../root", Err(Refused::Unfit)),
            ("/m/{user}", "a/../../b", Err(Refused::Unfit)),
            ("/m/{user}", "a\0b", Err(Refused::Unfit)),
            ("/m/{domain}/{local-part}", "u1@..", Err(Refused::Unfit)),
            ("/m/{domain}/{local-part}", "..@a.b", Err(Refused::Unfit)),
            ("/m/{domain}/{local-part}", "@a.b", Err(Refused::Unfit)),
        ];
        for (template, user, expected) in cases {
            let found = Template::parse(template).expect("a template").path(user);
            assert_eq!(found, expected.map(PathBuf::from), "{template} {user:?}");
        }
    }

    #[test]
    fn a_maildir_says_whose_it_is_where_the_template_leads_there() {
        let cases = [
            ("/m/{user}/Maildir", "/m/u1@a.b/Maildir", Some("u1@a.b")),
            ("/m/{user}/Maildir", "/m/u1/mail", None),
            ("/m/{user}/Maildir", "/m/u1/sub/Maildir", None),
            ("/m/{user}", "/m/.hidden", None),
            ("/m/{domain}/{local-part}", "/m/a.b/u1", Some("u1@a.b")),
            ("/m/{local-part}@{domain}.d", "/m/a@b@c.d", Some("a@b@c")),
            ("/m/{domain}/{user}", "/m/a.b/u1@a.b", Some("u1@a.b")),
            ("/m/{domain}/{user}", "/m/other/u1@a.b", None),
            ("/m/u-{local-part}", "/m/u-u-1", Some("u-1")),
            ("/m/u-{local-part}", "/m/u-", None),
        ];
        for (template, path, user) in cases {
            let found = Template::parse(template).expect("a template").user(Path::new(path));
            assert_eq!(found.as_deref(), user, "{template} {path}");
        }
        let template = Template::parse("/m/{domain}/all/u-{local-part}").expect("a template");
        assert_eq!(template.folders().collect::<Vec<_>>(), [Some("m"), None, Some("all"), None]);
    }

    proptest! {
        #[test]
        fn the_user_of_a_users_maildir_is_that_user(user in "[a-c@.\u{fc}]{1,8}") {
            for template in ["/m/{user}", "/m/{domain}/{local-part}", "/m/{domain}-{local-part}/{user}/x"] {
                let template = Template::parse(template).expect("a template");
                if let Ok(path) = template.path(&user) {
                    prop_assert_eq!(template.user(&path), Some(user.clone()));
                }
            }
        }

        #[test]
        fn no_name_leaves_the_template(user in "[./@a{}\0\u{fc}]{0,12}") {
            let template = Template::parse("/m/{domain}/{local-part}/{user}/Maildir").expect("a template");
            if let Ok(path) = template.path(&user) {
                prop_assert_eq!(path.components().count(), 6);
                prop_assert!(path.components().all(|part| part.as_os_str() != ".." && part.as_os_str() != "."));
            }
        }
    }
}
