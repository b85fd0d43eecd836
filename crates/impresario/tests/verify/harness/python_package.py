# Asks the package `standardwebhooks`, by the page's lines, of each callback on stdin, and has it sign others.
import base64
import json
import sys
from datetime import datetime, timezone

from opening import open as open_callback
from standardwebhooks import Webhook

question = json.load(sys.stdin.buffer)


def opens(callback):
    body = base64.b64decode(callback["body"])
    try:
        event = open_callback(callback["secrets"][0], callback["headers"], body)
    except Exception:
        return False
    return event == json.loads(body)


def signs(secret, message_id, timestamp, body):
    return Webhook(secret).sign(message_id, datetime.fromtimestamp(timestamp, timezone.utc), body)


opened = [opens(callback) for callback in question["open"]]
json.dump({"opened": opened, "signed": [signs(*callback) for callback in question["sign"]]}, sys.stdout)
