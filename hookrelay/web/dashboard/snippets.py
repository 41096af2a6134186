"""How a receiver checks signatures, in the languages that the Standard Webhooks libraries are made for."""

SNIPPETS = (
    (
        "Python",
        "pip install standardwebhooks",
        """import os

from standardwebhooks import Webhook

webhook = Webhook(os.environ["WEBHOOK_SECRET"])

# body: the request's bytes, as they came
event = webhook.verify(body, request.headers)
print(event["type"], event["data"])""",
    ),
    (
        "Node",
        "npm install standardwebhooks",
        """import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.WEBHOOK_SECRET);

// body: the request's text, as it came
const event = webhook.verify(body, request.headers);
console.log(event.type, event.data);""",
    ),
    (
        "Go",
        "go get github.com/standard-webhooks/standard-webhooks/libraries/go",
        """import standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

wh, err := standardwebhooks.NewWebhook(os.Getenv("WEBHOOK_SECRET"))
if err != nil {
    log.Fatal(err)
}

// body: the request's bytes, as they came
if err := wh.Verify(body, r.Header); err != nil {
    http.Error(w, "bad signature", http.StatusUnauthorized)
    return
}""",
    ),
    (
        "PHP",
        "composer require standard-webhooks/standard-webhooks",
        """$webhook = new \\StandardWebhooks\\Webhook(getenv('WEBHOOK_SECRET'));

// the request's body, as it came
$body = file_get_contents('php://input');
$headers = array_change_key_case(getallheaders(), CASE_LOWER);
$event = $webhook->verify($body, $headers);
error_log($event['type']);""",
    ),
)
"""Of each: the language, the command that gets the library, and the code."""
