# Asks the page's code of each callback on stdin.
import base64
import json
import sys

from receiver import verify, verify_plain

answers = []
for callback in json.load(sys.stdin.buffer):
    secrets, headers = callback["secrets"], callback["headers"]
    body = base64.b64decode(callback["body"])
    answers.append([verify(secrets, headers, body, callback["now"]), verify_plain(secrets[0], headers, body)])
json.dump(answers, sys.stdout)
