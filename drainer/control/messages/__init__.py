"""Requests and replies of the control socket: one definition for both ends, a file for each subject.

    GET  /status                 Snapshot
    GET  /metrics                the same as text for Prometheus (report/metrics.py)
    GET  /eta?at=RATE&by=EPOCH   EtaReply
    GET  /entries?SELECTORS&limit=N  EntriesReply
    GET  /entries/{key}          ShowReply      key: filebase, unique beginning of one, or Message-ID
    POST /pause                  PauseRequest   -> Done
    POST /resume                 ResumeRequest  -> Done
    GET  /rate                   RateReply
    POST /rate                   RateRequest    -> RateReply
    GET  /domains?domain=NAME&limit=N  DomainsReply
    POST /domain                 DomainRequest  -> DomainReply
    POST /hold /release /drop    SelectRequest  -> SelectReply
    POST /handback               SelectRequest  -> SelectReply
    POST /import                 ImportRequest  -> ImportReply
    POST /undo                   UndoRequest    -> UndoReply
    GET  /journal?limit=N        JournalReply
    GET  /report?since=EPOCH     Incident (report/incident/document.py)
    GET  /config                 the settings in force

Errors are {"error": "text for the operator"} with 400 (bad request), 404 (no such entry), 409 (refused) or 500.

Not here  who answers them (control/operations.py, the protocol; operate/operations.py, the service).
"""
