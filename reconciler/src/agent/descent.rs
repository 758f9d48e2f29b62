//! Does what runs descend from a commit that somebody waits for? Git is asked once, and not by every question.
//!
//! In: questions, git's answers. Out: yes, no, or nobody knows yet. Not here: git (`git`), who asks (`http`).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::revision::CommitHash;
use crate::time::Instant;

/// So many questions are with git at a time, whoever asks: fetching goes on beside them.
const WITH_GIT: usize = 2;
/// So many answers are remembered.
const MOST: usize = 64;
/// A no is good for so long: the commit may be on its way to the mirror.
const NO: Duration = Duration::from_secs(2);
/// Git answers or is killed by then.
const LOST: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Question {
    id: u64,
    at: Instant,
    answer: Option<bool>,
}

/// Questions and answers.
#[derive(Debug, Default)]
pub struct Descent {
    last: u64,
    questions: BTreeMap<(String, CommitHash), Question>,
}

impl Descent {
    /// Does `descendant` descend from the commit whose hash begins with `ancestor`? Where nobody knows, `git` is asked
    /// under a number, if it has time.
    pub fn ask(
        &mut self,
        now: Instant,
        ancestor: String,
        descendant: CommitHash,
        git: impl FnOnce(u64, String) -> bool,
    ) -> Option<bool> {
        self.questions.retain(|_, question| match question.answer {
            Some(true) => true,
            Some(false) => now.since(question.at) < NO,
            None => now.since(question.at) < LOST,
        });
        if let Some(question) = self.questions.get(&(ancestor.clone(), descendant)) {
            return question.answer;
        }
        let with_git = self.questions.values().filter(|question| question.answer.is_none()).count();
        if with_git >= WITH_GIT {
            return None;
        }
        if self.questions.len() >= MOST {
            self.questions.retain(|_, question| question.answer.is_none());
        }
        self.last += 1;
        if git(self.last, ancestor.clone()) {
            self.questions.insert((ancestor, descendant), Question { id: self.last, at: now, answer: None });
        }
        None
    }

    /// Git answered, or could not.
    pub fn answered(&mut self, now: Instant, id: u64, answer: Option<bool>) {
        match answer {
            Some(_) => {
                if let Some(question) = self.questions.values_mut().find(|question| question.id == id) {
                    question.answer = answer;
                    question.at = now;
                }
            }
            None => self.questions.retain(|_, question| question.id != id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: CommitHash = CommitHash([7; 20]);

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn git_is_asked_once_and_a_no_is_asked_again_later() {
        let mut descent = Descent::default();
        assert_eq!(descent.ask(at(0), "abcd".into(), HEAD, |id, _| id == 1), None);
        assert_eq!(descent.ask(at(0), "abcd".into(), HEAD, |_, _| panic!("twice")), None);
        descent.answered(at(1), 1, Some(false));
        assert_eq!(descent.ask(at(1), "abcd".into(), HEAD, |_, _| panic!("known")), Some(false));
        assert_eq!(descent.ask(at(4), "abcd".into(), HEAD, |_, _| true), None);
        descent.answered(at(4), 2, Some(true));
        assert_eq!(descent.ask(at(4_000), "abcd".into(), HEAD, |_, _| panic!("yes is for good")), Some(true));
    }

    #[test]
    fn many_questions_neither_flood_git_nor_memory() {
        let mut descent = Descent::default();
        let mut asked = 0;
        for number in 0..1000 {
            descent.ask(at(0), format!("{number:04}"), HEAD, |_, _| {
                asked += 1;
                true
            });
        }
        assert_eq!(asked, WITH_GIT);
        for number in 0..1000_u64 {
            let mut with = 0;
            descent.ask(at(100), format!("{number:04}"), HEAD, |id, _| {
                with = id;
                true
            });
            descent.answered(at(100), with, Some(true));
        }
        assert!(descent.questions.len() <= MOST);
    }

    #[test]
    fn a_question_that_git_could_not_answer_is_asked_again() {
        let mut descent = Descent::default();
        descent.ask(at(0), "abcd".into(), HEAD, |_, _| true);
        descent.answered(at(1), 1, None);
        let mut asked = false;
        descent.ask(at(1), "abcd".into(), HEAD, |_, _| {
            asked = true;
            true
        });
        assert!(asked);
    }
}
