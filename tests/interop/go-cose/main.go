// Checks the frozen vectors with veraison/go-cose, which knows COSE and nothing of ours.
//
//	go run . ../../vectors
//
// Every right statement, receipt and head must verify; every wrong twin that a COSE implementation has to refuse must be
// refused. Closes with "N passed, N failed".
package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	_ "crypto/sha256" // go-cose looks ES256 up among the hashes that are linked in
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"path/filepath"

	"github.com/veraison/go-cose"
)

type key struct{ X, Y string }

type vector struct {
	Name           string
	Key            string
	Payload        string
	Bytes          string
	CoseMustRefuse bool `json:"cose_must_refuse"`
}

type file struct {
	Keys    map[string]key
	Vectors []vector
	Wrong   []vector
}

type dialogue struct{ Heads []vector }

func load(folder, name string, into any) {
	data, err := os.ReadFile(filepath.Join(folder, name))
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

func number(text string) *big.Int {
	found, ok := new(big.Int).SetString(text, 16)
	if !ok {
		panic("no number: " + text)
	}
	return found
}

func raw(text string) []byte {
	data, err := hex.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return data
}

// verifies tells whether go-cose takes the message for one that the key signed, and its payload.
func verifies(data []byte, by key) (bool, []byte) {
	public := &ecdsa.PublicKey{Curve: elliptic.P256(), X: number(by.X), Y: number(by.Y)}
	verifier, err := cose.NewVerifier(cose.AlgorithmES256, public)
	if err != nil {
		return false, nil
	}
	var message cose.Sign1Message
	if message.UnmarshalCBOR(data) != nil {
		return false, nil
	}
	return message.Verify(nil, verifier) == nil, message.Payload
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "go run . FOLDER")
		os.Exit(2)
	}
	var keys, statements, receipts file
	var talk dialogue
	load(os.Args[1], "keys.json", &keys)
	load(os.Args[1], "statements.json", &statements)
	load(os.Args[1], "receipts.json", &receipts)
	load(os.Args[1], "dialogue.json", &talk)

	passed, failed, unseen := 0, 0, 0
	check := func(name string, held bool) {
		if held {
			passed++
			return
		}
		failed++
		fmt.Println("FAILED", name)
	}
	for _, one := range statements.Vectors {
		held, payload := verifies(raw(one.Bytes), keys.Keys[one.Key])
		check("statement "+one.Name, held)
		check("payload of "+one.Name, bytes.Equal(payload, raw(one.Payload)))
	}
	for _, one := range append(receipts.Vectors, talk.Heads...) {
		held, _ := verifies(raw(one.Bytes), keys.Keys["receipt"])
		check("receipt or head "+one.Name, held)
	}
	for signer, wrong := range map[string][]vector{"gateway": statements.Wrong, "receipt": receipts.Wrong} {
		for _, one := range wrong {
			held, _ := verifies(raw(one.Bytes), keys.Keys[signer])
			if one.CoseMustRefuse {
				check("wrong twin: "+one.Name, !held)
			} else if held {
				unseen++
			}
		}
	}
	fmt.Printf("go-cose: %d wrong twins break rules that COSE does not know\n", unseen)
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
