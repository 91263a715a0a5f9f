// Command shop is the sample application of demos and tests: a page that names its commit, one log line a second, and
// every way of going wrong that a preview has to explain.
//
// $MODE is how it starts, and POST /<mode> changes it at run time:
//
//	ok           answers
//	crash        ends with status 1
//	hang         accepts connections and never answers
//	never-ready  answers, but /healthz says 503
//	oom          allocates until it is killed
//	stay         answers, and does not end when it is asked to
//	burn         answers, and uses all the CPU that it gets
//
// POST /say prints the body as it is, and POST /chatter?lines=N&size=BYTES so many lines.
//
// With a PostgreSQL at $DB_URL, `shop migrate` makes its table, `shop seed` adds the first visit, and GET /visits counts
// one more. `shop migrate` fails where $MIGRATE is `fail`.
//
// GET /resolve?name=NAME answers with NAME's addresses, as the pod's resolver sees them.
//
// For what stands between it and its visitors: GET /headers answers with the request's headers as JSON and sets the cookies
// in ?cookie=, GET /slowly?pieces=N sends a line and then one each 300 ms, GET /bytes?size=N sends so many zeros, POST /size
// says how many bytes it got, and GET /echo is a WebSocket that sends back what it gets.
package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"
	_ "github.com/lib/pq"
)

var mode atomic.Value

// Kept in a package variable so that the collector cannot give any of it back.
var hoard [][]byte

func main() {
	log.SetFlags(log.Ldate | log.Ltime | log.LUTC)
	log.SetOutput(os.Stdout)
	// As a container's first process it would otherwise ignore SIGTERM and hold its namespace for 30 s.
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)

	commit := commit()
	if len(os.Args) > 1 {
		work(os.Args[1], commit)
		return
	}
	log.Printf("shop %s starts", commit)
	go func() {
		for n := 1; ; n++ {
			log.Printf("line %d commit %s mode %v", n, commit, mode.Load())
			time.Sleep(time.Second)
		}
	}()
	enter(environment("MODE", "ok"))

	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { page(w, commit) })
	http.HandleFunc("GET /healthz", health)
	http.HandleFunc("GET /resolve", resolve)
	http.HandleFunc("GET /headers", headers)
	http.HandleFunc("GET /slowly", slowly)
	http.HandleFunc("GET /bytes", zeros)
	http.HandleFunc("POST /size", size)
	http.HandleFunc("GET /echo", echo)
	http.HandleFunc("POST /say", say)
	http.HandleFunc("POST /chatter", chatter)
	http.HandleFunc("GET /visits", func(w http.ResponseWriter, r *http.Request) { visit(w, commit) })
	http.HandleFunc("POST /{mode}", func(w http.ResponseWriter, r *http.Request) {
		asked := r.PathValue("mode")
		if !known(asked) {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintln(w, asked)
		if flusher, ok := w.(http.Flusher); ok {
			flusher.Flush()
		}
		go enter(asked)
	})
	go func() {
		log.Fatal(http.ListenAndServe(":"+environment("PORT", "8080"), unlessHanging(http.DefaultServeMux)))
	}()
	for signal := range ended {
		if mode.Load() != "stay" {
			log.Printf("shop %s ends at %v", commit, signal)
			return
		}
		log.Printf("shop %s stays in spite of %v", commit, signal)
	}
}

func known(asked string) bool {
	switch asked {
	case "ok", "crash", "hang", "never-ready", "oom", "stay", "burn":
		return true
	}
	return false
}

func enter(asked string) {
	if !known(asked) {
		log.Fatalf("MODE is ok, crash, hang, never-ready, oom, stay or burn, not %q", asked)
	}
	mode.Store(asked)
	switch asked {
	case "crash":
		log.Fatal("panic: the basket is on fire")
	case "oom":
		go allocate()
	case "burn":
		go burn()
	}
}

func burn() {
	for mode.Load() == "burn" {
	}
}

func allocate() {
	const step = 4 << 20
	for {
		block := make([]byte, step)
		// Memory counts against the limit only once it was written to.
		for i := 0; i < step; i += 4096 {
			block[i] = 1
		}
		hoard = append(hoard, block)
		time.Sleep(10 * time.Millisecond)
	}
}

func unlessHanging(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if mode.Load() == "hang" {
			<-r.Context().Done()
			return
		}
		next.ServeHTTP(w, r)
	})
}

func page(w http.ResponseWriter, commit string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	greeting := html.EscapeString(environment("GREETING", "hello"))
	fmt.Fprintf(w, `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>shop %[1]s</title>
<style>body{font:18px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:36rem;padding:0 1rem}code{background:#eee;padding:.1em .4em;border-radius:.3em}</style></head>
<body><h1>%[2]s</h1><p>This is commit <code>%[1]s</code>.</p></body>
</html>
`, html.EscapeString(commit), greeting)
}

// What runs once, before the application does.
func work(asked, commit string) {
	log.Printf("shop %s does %s", commit, asked)
	var err error
	switch asked {
	case "migrate":
		if os.Getenv("MIGRATE") == "fail" {
			log.Fatal("migrate: column \"basket\" does not exist")
		}
		err = execute("CREATE TABLE IF NOT EXISTS visits (at timestamptz DEFAULT now(), by text)")
	case "seed":
		err = execute("CREATE TABLE IF NOT EXISTS visits (at timestamptz DEFAULT now(), by text)")
		if err == nil {
			err = execute("INSERT INTO visits (by) VALUES ('seed')")
		}
	case "check":
		log.Printf("shop %s is well", commit)
	default:
		log.Fatalf("shop does migrate, seed and check, not %q", asked)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func execute(statement string, arguments ...any) error {
	database, err := open()
	if err != nil {
		return err
	}
	defer database.Close()
	_, err = database.Exec(statement, arguments...)
	return err
}

func open() (*sql.DB, error) {
	return sql.Open("postgres", os.Getenv("DB_URL")+"?sslmode=disable&connect_timeout=5")
}

func visit(w http.ResponseWriter, commit string) {
	database, err := open()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer database.Close()
	if _, err := database.Exec("INSERT INTO visits (by) VALUES ($1)", commit); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	var count int
	if err := database.QueryRow("SELECT count(*) FROM visits").Scan(&count); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(w, count)
}

func health(w http.ResponseWriter, _ *http.Request) {
	if mode.Load() == "never-ready" {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func resolve(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, r.URL.Query().Get("name"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(w, strings.Join(addresses, "\n"))
}

func headers(w http.ResponseWriter, r *http.Request) {
	for _, cookie := range r.URL.Query()["cookie"] {
		w.Header().Add("Set-Cookie", cookie)
	}
	// Go keeps it apart from the others.
	r.Header.Set("Host", r.Host)
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(r.Header)
}

func slowly(w http.ResponseWriter, r *http.Request) {
	for n := 0; n < number(r, "pieces"); n++ {
		if n > 0 {
			time.Sleep(300 * time.Millisecond)
		}
		fmt.Fprintf(w, "piece %d\n", n)
		http.NewResponseController(w).Flush()
	}
}

func zeros(w http.ResponseWriter, r *http.Request) {
	block := make([]byte, 64<<10)
	for left := number(r, "size"); left > 0; left -= len(block) {
		if _, err := w.Write(block[:min(left, len(block))]); err != nil {
			return
		}
	}
}

func size(w http.ResponseWriter, r *http.Request) {
	count, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintln(w, count)
}

func say(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	os.Stdout.Write(append(body, '\n'))
	fmt.Fprintln(w, len(body))
}

func chatter(w http.ResponseWriter, r *http.Request) {
	filling := strings.Repeat("x", number(r, "size"))
	out := bufio.NewWriter(os.Stdout)
	for n := 0; n < number(r, "lines"); n++ {
		fmt.Fprintf(out, "chatter %d %s\n", n, filling)
	}
	out.Flush()
	fmt.Fprintln(w, "said")
}

func echo(w http.ResponseWriter, r *http.Request) {
	// A page of any origin may: there is nothing here to protect.
	connection, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer connection.CloseNow()
	connection.SetReadLimit(1 << 20)
	for {
		kind, message, err := connection.Read(r.Context())
		if err != nil {
			return
		}
		if err := connection.Write(r.Context(), kind, message); err != nil {
			return
		}
	}
}

func number(r *http.Request, name string) int {
	value, _ := strconv.Atoi(r.URL.Query().Get(name))
	return value
}

// The commit that is baked into the image, so that a page cannot claim to be of another.
func commit() string {
	if baked, err := os.ReadFile("/commit"); err == nil {
		return strings.TrimSpace(string(baked))
	}
	return environment("COMMIT", "unknown")
}

func environment(name, otherwise string) string {
	if value, set := os.LookupEnv(name); set && value != "" {
		return value
	}
	return otherwise
}
