-- Where captured payload lies: a row per session and file, with whose session it is.
WITH origin AS (
    SELECT u.node, u.boot, u.session_no,
        min(u.service) AS service,
        min(u.rule) AS rule,
        min(u.customer) AS customer,
        min(u.client_ip) AS client_ip,
        arg_max(u.target_ip, u.interval_seq) AS target_ip
    FROM usage u SEMI JOIN captures c ON u.node = c.node AND u.boot = c.boot AND u.session_no = c.session_no
    GROUP BY ALL
)
SELECT c.*, o.* EXCLUDE (node, boot, session_no)
FROM captures c LEFT JOIN origin o ON c.node = o.node AND c.boot = o.boot AND c.session_no = o.session_no
