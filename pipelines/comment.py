#!/usr/bin/env python3
"""Keeps one comment of a pull request up to date with the Markdown on standard input.

    rendezvip plan vips --base origin/main --format markdown | comment.py vips

The comment is found again by a mark that nobody sees; the argument tells apart several in one pull request. One that
says the same already is left alone, so nobody is notified of nothing. Needs Python 3.8 and nothing else. What it needs
to know comes from the environment, as the pipelines set it:

    GitHub, Gitea, Forgejo  GITHUB_API_URL, GITHUB_REPOSITORY, GITHUB_EVENT_PATH, GITHUB_TOKEN
    GitLab                  CI_API_V4_URL, CI_PROJECT_ID, CI_MERGE_REQUEST_IID, GITLAB_TOKEN (scope `api`)
"""

import json
import os
import sys
import urllib.error
import urllib.request

# GitHub takes 65,536 characters, the others more.
MOST = 65_000
# 10,000 comments of a pull request are looked through.
PAGES = 100


def call(method, url, headers, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "rendezvip-comment", **headers}
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def forge():
    """Where the comments of this pull request are, how to authorize, and how to change one of them."""
    env = os.environ
    if "CI_MERGE_REQUEST_IID" in env:
        notes = "{CI_API_V4_URL}/projects/{CI_PROJECT_ID}/merge_requests/{CI_MERGE_REQUEST_IID}/notes".format(**env)
        return notes, {"PRIVATE-TOKEN": env["GITLAB_TOKEN"]}, "PUT", notes
    with open(env["GITHUB_EVENT_PATH"], encoding="utf-8") as file:
        number = json.load(file)["pull_request"]["number"]
    issues = "{GITHUB_API_URL}/repos/{GITHUB_REPOSITORY}/issues".format(**env)
    headers = {"Authorization": "token " + env["GITHUB_TOKEN"], "Accept": "application/json"}
    return f"{issues}/{number}/comments", headers, "PATCH", f"{issues}/comments"


def ours(comments, headers, mark):
    """Our comment, if there is one."""
    seen = set()
    for page in range(1, PAGES + 1):
        found = call("GET", f"{comments}?per_page=100&limit=100&page={page}", headers)
        # A forge that knows no pages answers the same again.
        found = [one for one in found if one["id"] not in seen]
        if not found:
            break
        for one in found:
            seen.add(one["id"])
            if (one.get("body") or "").startswith(mark):
                return one
    return None


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else "."
    mark = f"<!-- rendezvip plan of {name.replace('--', '- -')} -->\n"
    text = sys.stdin.read()
    if len(text) > MOST:
        text = text[:MOST].rsplit("\n", 1)[0] + "\n\nCut here: `rendezvip plan` shows all.\n"
    try:
        comments, headers, change, one = forge()
    except KeyError as error:
        print(f"comment.py: {error} is not in the environment: is this a pull request?", file=sys.stderr)
        return 1
    try:
        old = ours(comments, headers, mark)
        if old is None:
            call("POST", comments, headers, {"body": mark + text})
            print("comment written")
        elif old["body"].strip() != (mark + text).strip():
            call(change, f"{one}/{old['id']}", headers, {"body": mark + text})
            print("comment brought up to date")
        else:
            print("comment is up to date")
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            # A pull request from a fork: its token may read only. The plan is in the log and in the summary.
            print(f"comment.py: the token may not comment here ({error.code} {error.reason})", file=sys.stderr)
            return 0
        print(f"comment.py: {error.url}: {error.code} {error.reason}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"comment.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
