"""Sentences with people and places in them, and with words that only look like names.

`dev` and `test` share no template and no lexicon but the three commonest Korean surnames. `test` was written before
there was anything that finds names; what it gets wrong there was not looked at. Titles, honorifics and particles are no
part of a name; cities, regions, countries, districts, rivers and mountains are places; a place or a person in a
company's, a product's or a method's name is neither.
"""

import random
from typing import Literal

from tests.benchmarks.labelled import Language, Sentence, fill

Split = Literal["dev", "test"]
KINDS = ("person", "place")


def named(split: Split, language: Language, count: int, seed: int = 0) -> list[Sentence]:
    """Make sentences, the same ones for the same arguments.

    Args:
        split: Which half of templates and lexicons.
        language: Language of the templates.
        count: How many; two in three hold a name.
        seed: Seed of the choices.
    """
    chance = random.Random(f"{split} {language} {seed}")

    def pick(lexicon: str) -> str:
        return chance.choice(_LEXICON[lexicon, split].split("|"))

    def make(name: str, form: str) -> str:
        if name == "=word":
            return pick(f"{language} word")
        if name == "=number":
            return str(chance.randint(2, 900))
        if name == "place":
            return pick(f"{language} place")
        if language == "ko":
            if form == "foreign":
                return pick("ko foreign")
            surname = pick("ko surname")
            given = pick("ko given")
            return {"": surname + given, "given": given, "surname": surname, "spaced": f"{surname} {given}"}[form]
        given, surname = pick("en given"), pick("en surname")
        if form == "korean":
            return pick("en korean")
        return {
            "": f"{given} {surname}",
            "given": given,
            "surname": surname,
            "initial": f"{given[0]}. {surname}",
            "middle": f"{given} {chance.choice('ABCDEFGHJKLMPRSTW')}. {surname}",
            "turned": f"{surname}, {given}",
            "capitals": f"{given} {surname}".upper(),
            "double": f"{given} {surname}-{pick('en surname')}",
        }[form]

    made = []
    positives, negatives = _TEMPLATES[language, split], _NEGATIVES[language, split]
    for number in range(count):
        templates, place = (negatives, number // 3) if number % 3 == 2 else (positives, number - number // 3)
        made.append(fill(templates[place % len(templates)], make, language))
    return made


_LEXICON: dict[tuple[str, str], str] = {
    ("en given", "dev"): (
        "James|Mary|Wei|Priya|Carlos|Anna|David|Fatima|Linda|Kenji|Michael|Jennifer|William|Barbara|Richard|Jessica|"
        "Ahmed|Olga|Pierre|Sofia|Hiroshi|Amara|Lars|Chloe|Diego|Aisha|Stefan|Mei|Ivan|Zoe|Will|Grace|Mark|Rose|Femi|"
        "Siobhan|Giulia|Tariq|Anjali|Marek"
    ),
    ("en given", "test"): (
        "Robert|Patricia|Yuki|Omar|Elena|Thomas|Ingrid|Rajesh|Susan|Mateo|Nadia|George|Karen|Daniel|Helen|Joshua|Laura|"
        "Kwame|Svetlana|Jean|Lucia|Takeshi|Zanele|Björn|Emma|Pablo|Layla|Jürgen|Xiu|Dmitri|Isla|Frank|Faith|Bill|Iris|"
        "Chidi|Niamh|Matteo|Hassan|Deepika|Tomasz|Owen"
    ),
    ("en surname", "dev"): (
        "Smith|Johnson|Chen|Patel|Garcia|Novak|Miller|Haddad|Brown|Tanaka|Davis|Rodriguez|Kim|Müller|Rossi|Okafor|"
        "Ivanova|Dubois|Jensen|Singh|Walker|Young|King|Wright|Scott|Green|Baker|Nelson|Carter|Mitchell|O'Brien|"
        "MacDonald|Nguyen|Santos|Yilmaz"
    ),
    ("en surname", "test"): (
        "Wilson|Anderson|Sato|Hassan|Petrova|Moore|Larsen|Gupta|Clark|Fernandez|Kowalski|Hughes|Taylor|Thomas|Jackson|"
        "White|Harris|Lewis|Robinson|Hall|Park|Schneider|Bianchi|Mensah|Volkov|Lefebvre|Nielsen|Sharma|Turner|Cooper|"
        "Reed|Bailey|O'Connor|McCarthy|Tran|Oliveira|Demir|Wood"
    ),
    ("en korean", "dev"): "Kim Min-su|Lee Ji-young|Park Seo-jun|Choi Ha-eun|Minsu Kim",
    ("en korean", "test"): "Cho Yeong-ho|Jang Hye-rin|Lim Dong-hyun|Yoo Soo-yeon|Jihoon Seo",
    ("en place", "dev"): (
        "Berlin|Tokyo|Chicago|Paris|Busan|Toronto|Canada|Brazil|Texas|Munich|Nairobi|Lyon|Portland|Mexico City|"
        "New York|Kyoto|Poland|Scotland|Brooklyn|Ohio|Mumbai|Belgium|Lake Geneva|Rhine|Cape Town"
    ),
    ("en place", "test"): (
        "London|Madrid|Boston|Seoul|Sydney|Vienna|Denver|Germany|Kenya|California|Hamburg|Jakarta|Bordeaux|Seattle|"
        "Buenos Aires|Los Angeles|Osaka|Norway|Wales|Manhattan|Florida|Delhi|Portugal|Lake Michigan|Danube|San Diego"
    ),
    ("en word", "dev"): "Monday|October|Python|Excel|Chrome|Docker|English|Friday|Linux",
    ("en word", "test"): "Tuesday|December|Ruby|Outlook|Firefox|Kubernetes|French|Sunday|Windows",
    ("ko surname", "dev"): "김|이|박|최|정|강|윤|한|송|남궁|배|백|노|안|허|심|곽|성",
    ("ko surname", "test"): "김|이|박|조|장|임|오|서|신|권|황|선우|유|문|전|고|홍|양|손|제갈",
    ("ko given", "dev"): (
        "민수|지영|서준|하은|영희|도윤|미경|재훈|수빈|현우|은|영수|정희|상철|보람|가영|시우|나연|승현|주희|병철|다인|"
        "규리|태호|세영|진우|혜원|원준|슬기|미숙|동욱|하람|은별|준|기현|선미|채원|용석|아름|범수"
    ),
    ("ko given", "test"): (
        "철수|지훈|예진|성호|수연|동현|유진|혜린|태영|소희|준영|경아|민|다은|영자|순옥|재영|민재|지우|하준|서연|건우|"
        "은지|정민|상우|나래|윤아|종수|현정|희수|광호|명숙|우진|보라|하늘|기범|선영|채은|용준|한별|솔"
    ),
    ("ko foreign", "dev"): "존 스미스|마리아 가르시아|리웨이|다나카 겐지|데이비드",
    ("ko foreign", "test"): "토머스 무어|엘레나 페트로바|왕샤오|사토 유키|제니퍼",
    ("ko place", "dev"): (
        "서울|부산|대전|수원|제주도|일본|강남구|해운대|분당|판교|경기도|중국|베를린|도쿄|속초|목포|지리산|낙동강|"
        "마포구|경상북도|프랑스|천안시|역삼동|울산"
    ),
    ("ko place", "test"): (
        "인천|광주|대구|춘천|강릉|미국|전주|종로구|잠실|일산|송도|충청남도|베트남|파리|뉴욕|여수|안동|설악산|한강|"
        "서초구|전라남도|독일|청주시|연남동|포항"
    ),
    ("ko word", "dev"): "월요일|엑셀|파이썬|오전|내일|우리|회의실|이번 주|최근",
    ("ko word", "test"): "화요일|아웃룩|자바|오후|어제|저희|사무실|지난달|올해",
}

_TEMPLATES: dict[tuple[str, str], list[str]] = {
    ("en", "dev"): [
        "{person} will join the call on {=word}.",
        "Please forward this to {person} and {person}.",
        "Dear {person:given},\nthank you for your message.",
        "Kind regards,\n{person}",
        "Dr. {person:surname} examined the patient in {place}.",
        "Mr. {person} and Mrs. {person:surname} live in {place}.",
        "We spoke with {person:given} about the delay.",
        "The contract was signed by {person:middle} in {place}.",
        "{person:given} said she would send the {=word} file.",
        "Assigned to: {person}",
        "From: {person:turned}",
        "author = '{person}'  # wrote the first version",
        "Ask {person:given} or {person:given} for the key.",
        "{person}'s flight to {place} leaves at noon.",
        "The customer, {person}, moved from {place} to {place}.",
        "I met {person} in {place} last {=word}.",
        "She was born in {place} and grew up in {place}.",
        "Our team in {place} is led by {person}.",
        "{person:korean} visited {place} with {person}.",
        "Interview with Prof. {person} of the physics department",
        "Witness: {person}, aged {=number}",
        "ticket {=number} was closed by {person:given} yesterday",
        "Attendees: {person}, {person}, {person}",
        "Copyright (c) {person}",
        "The parcel was sent to {place}, but {person:given} had already left.",
        '"I never received it", {person} told the agent.',
        "Is {person:given} back from {place}?",
        "{person:initial} reviewed the draft; {person:initial} approved it.",
        "Patient name: {person:capitals}",
        "Thanks, {person:given}! See you on {=word}.",
        "Shipping from {place} takes {=number} days.",
        "The meeting with Ms {person:surname} was moved to {=word}.",
        "{person:double} resigned as chair.",
        "My manager {person:given} agreed, but {person:given} did not.",
    ],
    ("en", "test"): [
        "{person} asked whether the {=word} release is ready.",
        "Could you add {person} to the list, and remove {person}?",
        "Hi {person:given}, quick question about the invoice.",
        "Best wishes\n{person}\nHead of Sales",
        "Professor {person:surname} teaches in {place}.",
        "Mrs {person} lost her bag somewhere in {place}.",
        "According to {person:given}, nothing was delivered on {=word}.",
        "{person:middle} was appointed director of the {place} office.",
        "He told {person:given} that the {=word} laptop was stolen.",
        "Reported by {person}, {=number} minutes ago",
        "Employee: {person:turned}",
        "# TODO({person:given}): ask {person} about this",
        "{person:given} and {person:given} shared a room.",
        "{person}'s application was rejected in {=word}.",
        "After leaving {place}, {person} settled in {place}.",
        "Has {person} been to {place} before?",
        "My parents still live in {place}.",
        "Flights from {place} to {place} were cancelled.",
        "{person:korean} will present the results to {person}.",
        "The defendant, {person}, denied everything.",
        "Insured person: {person}; policy {=number}",
        "call {person:given} when the server is up again",
        "Speakers include {person}, {person} and {person}.",
        "Maintainer: {person}",
        "The storm hit {place} before {person:given} could get home.",
        '"Not my fault," said {person}.',
        "Why did {person:given} fly to {place} on {=word}?",
        "Signed: {person:initial}",
        "NAME: {person:capitals}",
        "Good morning {person:given}, how was {place}?",
        "The warehouse in {place} has {=number} employees.",
        "Sir, Ms. {person:surname} is waiting in room {=number}.",
        "We hired {person:double} in {=word}.",
        "Nurse {person:surname} called {person} twice.",
        "From {person} to {person:given}: happy birthday!",
        "{person} | {place} | {=number}",
    ],
    ("ko", "dev"): [
        "{person} 씨가 {=word}에 연락했습니다.",
        "{person}님, 안녕하세요.",
        "{person} 부장과 {person} 대리가 참석했다.",
        "담당자는 {person}입니다.",
        "어제 {person}<이/가> {place}<으로/로> 출장을 갔다.",
        "고객 {person}의 주문을 취소해 주세요.",
        "{person} 교수는 {place}에서 태어났다.",
        "{person:given}<이가/가> {place}에 갔다고 하더라.",
        "성명: {person}",
        "작성자 {person}, 승인자 {person}",
        "{person}<은/는> {=word}까지 보고서를 내야 한다.",
        "환자 {person}({=number}세)가 입원했다.",
        "{place}에 사는 {person}에게 전화했다.",
        "{place}에서 {place}까지 {=number}킬로미터다.",
        "이 글은 {person} 기자가 썼다.",
        "피고 {person}<은/는> 혐의를 부인했다.",
        "{person} 드림",
        "{person} 선생님께 여쭤보세요.",
        "{person}, {person}, {person} 세 사람이 왔다.",
        "{=word} {place}에 비가 많이 내렸다.",
        "{person:surname} 과장님이 자리를 비우셨습니다.",
        "{person}도 그 회의에 있었다고 한다.",
        "{person:foreign} 씨는 {place}에 산다.",
        "예금주는 {person}<이고/고> 주소지는 {place}<이다/다>.",
        "{person}한테서 {=number}만 원을 빌렸다.",
        "{place} 지점의 {person} 지점장",
        "대표이사 {person}",
        "{person}<과/와> {person}<은/는> 부부다.",
        "제 이름은 {person}<이에요/예요>.",
        "{person:given} 씨, {=word} 시간 있어요?",
        "우리 {place} 공장은 직원이 {=number}명이다.",
        "{place}의 날씨가 {=word} 추웠다.",
    ],
    ("ko", "test"): [
        "{person} 님께서 {=word} 문의하셨습니다.",
        "안녕하세요, {person}입니다.",
        "{person} 팀장이 {person} 사원에게 일을 맡겼다.",
        "문의는 {person}에게 해 주십시오.",
        "지난주 {person}<은/는> {place}<을/를> 방문했다.",
        "{person}의 계정이 잠겼습니다.",
        "{person} 박사가 {place}에서 강연한다.",
        "{person:given}<이는/는> {place}에 살아요.",
        "이름: {person}",
        "검토: {person} / 결재: {person}",
        "{=word} {person}<이/가> 사표를 냈다.",
        "보호자 {person}(연락처 없음)",
        "{person}<이/가> {place}에서 돌아왔다.",
        "{place}행 버스는 {=number}분마다 온다.",
        "{person} 변호사가 변론을 맡았다.",
        "원고 {person}<과/와> 피고 {person}의 다툼",
        "{person} 올림",
        "{person} 선수가 {place} 대회에서 우승했다.",
        "참석자: {person}, {person}, {person}",
        "{place}에는 {=word} 눈이 왔다.",
        "{person:surname} 대리님은 휴가 중이에요.",
        "{person}까지 오면 모두 {=number}명이다.",
        "{person:foreign} 씨가 {place}에서 왔다.",
        "신청인 {person}, 출생지 {place}",
        "{person}에게서 편지가 왔다.",
        "{place} 본사에 {person} 이사가 있다.",
        "회장 {person}",
        "{person}<과/와> {person}<은/는> {=word} 만났다.",
        "저는 {person}<이라고/라고> 합니다.",
        "{person:given} 님, {=word} 회의에 오시나요?",
        "{place}에서 일하는 직원은 {=number}명이다.",
        "{person} 어머니가 {place}<으로/로> 이사했다.",
        "그 일은 {person}만 알고 있었다.",
        "{place}<과/와> {place} 사이에 산이 있다.",
    ],
}

_NEGATIVES: dict[tuple[str, str], list[str]] = {
    ("en", "dev"): [
        "Will you be there in May or in June?",
        "There is a grace period of {=number} days.",
        "Mark the field as required, then press Enter.",
        "The price rose by {=number} percent.",
        "We use Jenkins, Kafka and Django in production.",
        "Open Microsoft {=word} and click Save.",
        "Johnson & Johnson and Morgan Stanley reported earnings.",
        "Newton's method converges in {=number} steps.",
        "He ordered a turkey sandwich and lima beans.",
        "The Georgia font looks better than Helvetica.",
        "I read it in The New York Times.",
        "Install the package with pip and restart {=word}.",
        "Return True if the Bayesian model fits.",
        "She bought a new Ford and an old Mercedes.",
        "Amazon Prime and Apple Music cost {=number} dollars.",
        "The Markov Chain Monte Carlo sampler is slow.",
        "Java and Julia are programming languages.",
        "Bill of Materials, revision {=number}",
        "Happy Easter and Merry Christmas!",
        "Terms of Service and Privacy Policy apply.",
        "In summer, the iris and the jasmine bloom.",
        "class UserProfile(BaseModel): name: str",
        "Table {=number}. Results of the ablation study",
        "HTTP Error {=number}: Bad Gateway",
    ],
    ("en", "test"): [
        "May I ask what will happen in August?",
        "Hope is not a plan, and faith moves mountains.",
        "Please bill me for {=number} units, to be frank.",
        "The sun rose at dawn over the reading room.",
        "Ruby on Rails, Apache Cassandra and Gatsby are frameworks.",
        "Close Adobe Photoshop before you update {=word}.",
        "Goldman Sachs and Wells Fargo raised their rates.",
        "The Fourier transform of the signal has {=number} peaks.",
        "Buffalo wings and a china plate, please.",
        "Set the font to Verdana or Courier New.",
        "The Washington Post and the BBC wrote about it.",
        "Run the tests with Selenium on {=word}.",
        "Use a Gaussian kernel or a Poisson model.",
        "He sold his Dodge and bought a Tesla.",
        "Google Maps and Netflix were down for {=number} minutes.",
        "Dijkstra's algorithm finds the shortest path.",
        "Swift and Scala are compiled languages.",
        "Chase the bug, then drew a line under it.",
        "Thanksgiving and Ramadan are holidays.",
        "General Data Protection Regulation, Article {=number}",
        "A rose and a lily stood next to the amber lamp.",
        "def get_name(self) -> str: return self.first_name",
        "Figure {=number} shows the Pareto front.",
        "TypeError: Object of type Decimal is not JSON serializable",
        "Mobile users in the nice new orange app wait {=number} ms.",
    ],
    ("ko", "dev"): [
        "이상한 소리가 {=number}번 났다.",
        "정말로 고마운 일이다.",
        "이유는 간단하고 방법은 한가지다.",
        "최소한 {=number}명은 필요하다.",
        "김치찌개와 된장찌개를 주문했다.",
        "박스 {=number}개를 옮겼다.",
        "한국어 서비스를 이용하는 고객님께 안내드립니다.",
        "신청서는 {=word} 제출하세요.",
        "이천 원짜리 공책을 샀다.",
        "화성 탐사선이 도착했다.",
        "삼성전자와 현대자동차 주가가 올랐다.",
        "서울대학교 논문이 실렸다.",
        "정보 보호 정책을 바꾸었다.",
        "강력한 안전 장치가 있다.",
        "조용한 방을 부탁드립니다.",
        "보라색 하늘에 가을 바람이 분다.",
        "유명한 식당이라 줄이 길다.",
        "전체 {=number}건 가운데 오류는 없다.",
        "함수는 문자열을 돌려준다.",
        "오늘은 회의가 없지만 내일은 있다.",
        "현재 지원하는 언어는 {=number}개다.",
        "이 제품은 성능이 좋고 가격이 싸다.",
        "진주 목걸이를 선물했다.",
    ],
    ("ko", "test"): [
        "신기한 일이 {=number}번 있었다.",
        "정도가 지나치면 오히려 나쁘다.",
        "장기간 사용하지 않으면 전원을 끄세요.",
        "최대한 빨리 {=word} 처리하겠습니다.",
        "오징어볶음과 김밥을 시켰다.",
        "서류 {=number}장을 복사했다.",
        "이용자 여러분의 문의를 기다립니다.",
        "주문서는 {=word} 보내 드립니다.",
        "사천 명이 경주 대회에 나왔다.",
        "공주님과 왕자님이 나오는 동화다.",
        "유한양행과 신한은행이 협약을 맺었다.",
        "부산은행 앱이 새로 나왔다.",
        "조사 방법을 고치고 임시로 저장했다.",
        "안전한 비밀번호를 정하세요.",
        "한가한 오후에 서로 이야기를 나눴다.",
        "나라의 바다와 하늘은 푸르다.",
        "문제는 고장 난 부품이다.",
        "전부 {=number}쪽이고 표가 많다.",
        "변수의 이름은 소문자로 쓴다.",
        "하지만 이번에는 정상적으로 끝났다.",
        "지금까지 {=number}명이 신청했다.",
        "황금 같은 주말에 양말을 샀다.",
        "대구탕과 전주비빔밥이 맛있다.",
        "고성능 장비로 임무를 마쳤다.",
    ],
}
