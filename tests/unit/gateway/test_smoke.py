async def test_x(world):
    a = await world.http.post("/agents/create", json={"name":"helper","model_name":"smollm2:135m","config":{"system_prompt":"x","stop":["a"],"output_schema":{"type":"object"},"keep_alive":300}})
    print(a.status_code, a.headers, a.text)
    r = await world.http.post("/agents/run", json={"agent_id": a.json()["id"], "input":{"prompt":"x"}})
    print(r.text)
    print((await world.http.get("/tasks")).text)
    print((await world.http.get("/health")).text)
    print((await world.http.get("/openapi.json")).status_code)
    print((await world.http.get("/metrics")).text[:500])
    assert 0
