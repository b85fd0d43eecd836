// Asks the page's code of each callback on stdin.
package main

import (
	"encoding/json"
	"net/http"
	"os"
	"time"

	"callbacks/receiver"
)

func main() {
	var callbacks []struct {
		Secrets []string
		Headers map[string]string
		Body    []byte
		Now     int64
	}
	if err := json.NewDecoder(os.Stdin).Decode(&callbacks); err != nil {
		panic(err)
	}
	answers := make([][2]bool, len(callbacks))
	for i, callback := range callbacks {
		header := http.Header{}
		for name, value := range callback.Headers {
			header.Set(name, value)
		}
		answers[i] = [2]bool{
			receiver.Verify(callback.Secrets, header, callback.Body, time.Unix(callback.Now, 0)),
			receiver.VerifyPlain(callback.Secrets[0], header, callback.Body),
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		panic(err)
	}
}
