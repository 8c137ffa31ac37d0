// Reads a transparency log as a stranger would, by golang.org/x/mod/sumdb: check URL KEYS PROOF [WITNESS]
//
// URL is that of a service, or a directory with its log, KEYS the file of /-/keys, PROOF a file of /-/proof/TARGET, and WITNESS the key of a witness that
// has cosigned the log's present checkpoint. It reads all tiles and entries, and proves each entry, and each earlier tree.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func get(url string) []byte {
	if !strings.HasPrefix(url, "http") {
		return []byte(read(url))
	}
	answer, err := http.Get(url)
	must(err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	must(err)
	if answer.StatusCode != 200 {
		must(fmt.Errorf("%s: %s", url, answer.Status))
	}
	return body
}

func read(file string) string {
	text, err := os.ReadFile(file)
	must(err)
	return string(text)
}

// path is a tile's in c2sp.org/tlog-tiles: Go's has the height, too, and another name for entries.
func path(tile tlog.Tile) string {
	own := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", tile.H))
	return "tile/" + strings.Replace(own, "data/", "entries/", 1)
}

// log is where the tiles are.
type log string

func (log) Height() int                     { return 8 }
func (log) SaveTiles([]tlog.Tile, [][]byte) {}
func (url log) ReadTiles(tiles []tlog.Tile) (all [][]byte, err error) {
	for _, tile := range tiles {
		all = append(all, get(string(url)+path(tile)))
	}
	return all, nil
}

// witness verifies cosignatures (c2sp.org/tlog-cosignature), which Go's package does not know.
type witness struct {
	name string
	key  []byte
}

func (w witness) Name() string { return w.name }
func (w witness) KeyHash() uint32 {
	hash := sha256.Sum256(append([]byte(w.name+"\n"), w.key...))
	return binary.BigEndian.Uint32(hash[:])
}
func (w witness) Verify(text, signature []byte) bool {
	if len(signature) != 72 {
		return false
	}
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(signature), text)
	return ed25519.Verify(w.key[1:], []byte(message), signature[8:])
}

// open is the tree of a checkpoint that all of these have signed.
func open(text []byte, signers ...note.Verifier) tlog.Tree {
	signed, err := note.Open(text, note.VerifierList(signers...))
	must(err)
	if len(signed.Sigs) != len(signers) {
		must(fmt.Errorf("%d signatures of %d", len(signed.Sigs), len(signers)))
	}
	lines := strings.Split(signed.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err)
	root, err := tlog.ParseHash(lines[2])
	must(err)
	if lines[0] != signers[0].Name() {
		must(fmt.Errorf("the log is %s", lines[0]))
	}
	return tlog.Tree{N: size, Hash: root}
}

func main() {
	url, keys, proof := log(os.Args[1]+"/-/tlog/"), read(os.Args[2]), read(os.Args[3])
	var signers []note.Verifier
	for _, line := range strings.Split(keys, "\n") {
		if words := strings.Split(line, " "); words[0] == "log" {
			verifier, err := note.NewVerifier(words[1])
			must(err)
			signers = []note.Verifier{verifier}
		}
	}
	own := signers
	if len(os.Args) > 4 {
		parts := strings.SplitN(os.Args[4], "+", 3)
		key, err := base64.StdEncoding.DecodeString(parts[2])
		must(err)
		signer := witness{parts[0], key}
		if len(key) != 33 || key[0] != 4 || fmt.Sprintf("%08x", signer.KeyHash()) != parts[1] {
			must(fmt.Errorf("the witness's key is malformed"))
		}
		signers = append(signers, signer)
	}
	tree := open(get(string(url)+"checkpoint"), signers...)

	// The entries, whose hashes must be those of the tiles, which must be those of the checkpoint.
	var entries [][]byte
	for int64(len(entries)) < tree.N {
		tile := tlog.Tile{H: 8, L: -1, N: int64(len(entries)) / 256, W: 256}
		if left := tree.N - int64(len(entries)); left < 256 {
			tile.W = int(left)
		}
		bundle := get(string(url) + path(tile))
		for len(bundle) > 0 {
			length := 2 + int(binary.BigEndian.Uint16(bundle))
			entries, bundle = append(entries, bundle[2:length]), bundle[length:]
		}
	}
	if int64(len(entries)) != tree.N {
		must(fmt.Errorf("%d entries of %d", len(entries), tree.N))
	}
	hashes := tlog.TileHashReader(tree, url)
	earlier, err := tlog.TreeHash(0, hashes)
	must(err)
	for n, entry := range entries {
		proof, err := tlog.ProveRecord(tree.N, int64(n), hashes)
		must(err)
		must(tlog.CheckRecord(proof, tree.N, tree.Hash, int64(n), tlog.RecordHash(entry)))
		earlier, err = tlog.TreeHash(int64(n+1), hashes)
		must(err)
		grown, err := tlog.ProveTree(tree.N, int64(n+1), hashes)
		must(err)
		must(tlog.CheckTree(grown, tree.N, tree.Hash, int64(n+1), earlier))
	}
	if earlier != tree.Hash {
		must(fmt.Errorf("the root is another"))
	}

	// c2sp.org/tlog-proof.
	head, checkpoint, _ := strings.Cut(proof, "\n\n")
	lines := strings.Split(head, "\n")
	entry, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
	must(err)
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[2], "index "), 10, 64)
	must(err)
	var record tlog.RecordProof
	for _, line := range lines[3:] {
		hash, err := tlog.ParseHash(line)
		must(err)
		record = append(record, hash)
	}
	then := open([]byte(checkpoint), own...)
	must(tlog.CheckRecord(record, then.N, then.Hash, index, tlog.RecordHash(entry)))
	if !bytes.Equal(entry, entries[index]) {
		must(fmt.Errorf("entry %d is another", index))
	}
	fmt.Printf("%d entries, and entry %d is proven\n", tree.N, index)
}
