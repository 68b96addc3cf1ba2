# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives as ``pg_dump -Fc --no-acl --no-owner`` of two majors wrote them into a pipe.

In each are a table with six rows and a sequence, an empty table, a view, a materialized view, and two large objects.
"""

from __future__ import annotations

import base64
import lzma


def _recorded(*lines: str) -> bytes:
    return lzma.decompress(base64.b85decode("".join(lines)))


OF_13 = _recorded(
    "{Wp48S^xk9=GL@E0stWa8~^|S5YJf5;1SaWNL>IZ5yX^!W@go{36#5Ade}=>b5im?>~-5^?)P2ycz-scX#i7xGK~n19GWRy2m2;F?_&`YjE%t2",
    "6lIH3ZjOBuXOj)-l-cKux`?w;hI+tuc!_X&!&SoTOn0B;7Ah(xNc3Mkz*$76LWNGW`H<(N8P(h`=9=GzQNr(dGdFRDd8SGH&BJGN?_vB#bMXZf",
    "HcrN@Rzu+;x0`0lv@nR1crJe2t7_Cjn;wLr7_INA@v9G4_+R3yYPd2H^%-t~I*;mWsz)`-Z&pfU<F<gc$k0h0lQK(9eQ10gs6XwljOZ<?rZPJS",
    ";#p)czT^+`%`fzxYo1DQj@Aituu-wr@|&?5Wqm4Fb!7*^!q}+7X0tM!3a8hrrUhO*WG}1x2;7tPrG&bwwe`(;9252&zp+7{T&YJdQAbD55dS>%",
    "k^bMmeR4Ct7~?jbm@%tlYCR05*5CZbJyy3QJ?S4!U0gNCLq?4?ZA9S!`r^1EqG2%f0^Y|QubI6V@Vl^g4F9ngdy1wcTyF-XXddUv>;!k9$H`0}",
    "Os++y9gD?TKzI=@#(SDr2Ht@LZ%lGjWQiam$LNM3*w8`@i*p9iwnZZ05;BiQ(r?o?Rbu)Ay~(;?pLp|)y}6EE{3I-ClGhpK`>>`CywpnC%Mq};",
    "b^3>LV=kT_5k-snfNWe$yLoH_-}?$@6&mhxT<+Vri$m<e&4s@<j(8Mx12P0epbn6-#4@H&oXrHWimQLlY8gTzXV}^P4FYGBNML9LS{_g-6fOp)",
    "Bq2HL^t<~#-Lep{QPBL&Q)Uyen0WHgR@Mz)JSnv;-KTC;>2N_Co>5Q!6aYu<5qLbS!xnyl<?HAR<!mXUt7~D$<3&96;0A&y2t^PD#icB8Mu|be",
    "1c41aHb+zn8MtIk8r@}uCnolGKsT)dI9*U<<I+bMLh|2yoH;%R0nz9F`(3$%wP_t`p+Hb43y^RN%U;}RLWVOv0(Yd{94=gpJ+JUFUA|Rp6@f1#",
    "TY#gz!@VTEq>Sl_)tPFm)n9lIcyW2Kp-s!FUG@`6yf%j@@P*mnJNS_MU?DZBW*gol7kW0XvmAu`*~0I*Lb-TlvSbJ@<qka%$;mKLM}I0KE!*4R",
    "yY0L;Wu<<^@%`0D^m1?608|0i+dnGN7Xd;*R<HOkSus)6CTD)N^iH~WjXYR8{?K(XUT50!=|8<T`R`ALWluoCwm9(cox4%^(~-#kdPL{xo7m97",
    "osKXt{I5md5DaWq(ntbvJ^$Sb<5`84kr&h*Nd&yk&Km~n%pZ=BIP+!?MO`A$rJ|*E^$Ee%1_lC#b<|l>8{Q+nx?@>t?+HBr&_d}9A478C5pqD8",
    "jS?xjpZ4{21J7hW0f=x(w7lXF>W{7YBTtScS`N7FZ-1{ej8|tt<orAZMsS63XJO5ii$5#W>^un=&$(MeA$>1HDX)nQS`5WU^$%{&3>PU*0{C6V",
    "*QWiBbrO{h3r~)xoMS$JeKH{&f(Cj)6Z=$aYP;pVdl%7|HV!0u9hw^uWHZ2BHa=?Te0v#U+hpWfpv~GqcOeVCM2oNum6`@a%`UNS>1Nyh{};L8",
    "BHi>8zr8S$W3jqESgkWIMlC-Lt*<Kec*l1?e}<O^4iJ9trk&j6x--K9=T0MYIU{4*gCumW$}Nn}V|ttd9uA&g8+rG?lWZIY_s9)r&;(h7Y})^m",
    "zU?^)E~aW6YcVW^vH^=rv~KyWo01fo9f{sN-%r=s`jIcD0uXq}&@{_DD3gNx!h!-Cp_6!W)i8yddoch2{gC%8fs#EL00HC*)FS`@pF<6ovBYQl",
    "0ssI200dcD",
)
OF_17 = _recorded(
    "{Wp48S^xk9=GL@E0stWa8~^|S5YJf5;1O^ITwMSt5yX^!W@g;NRYAbierP{pq%FCdDH&#@m3@1ewcP~ItT?0ZNdgd90M6G9J>188HJrlkHNw0O",
    "CXz?*S5K-zLYd*5WOIsc3wUbG@5eT&wSHLN4!%x@Pj;Manf?6hTf3GYc<PTZiR$rw$Cd$7vxXTgZ-Q~Zz-LLvCc(Wcusws_C7P$BU1Udush*-f",
    "<4$$`#lU0hIo6AONtp*=wLlCVzf$tL9#imh=b<t`OO_$$Ckut_N<UF)YxpD~mS;T#{#><um|P<l4^X|;cB-twH$Q`Ks?u3XPs%xTb=9q>=wsjP",
    "=?$5k7hOiL{lo@lw``rah_;VRd=pdM2*3&$v}nyiK+J9wTBe^?Yp-sYoiOMOi(AuXYFsgOd_e(g7(sh(WYZ5+n=%8Tr^fHV(3!kjO2Gx8^%?hf",
    "K~8|E*Dv)K`$zYO5=qnO!P^z4d_p*mZ7W8BdTiJ{viE~(_!`!M7y)hY8iAnc<;bc$yld7Bfm8VvTOU_&B!KzXaGu0;=9|UWZMx}~NZE3bGBiq~",
    "%I|+S%}9$Hfw$L=z3W8F(f5~2?yY#lb}0ovIu$nUlBoKhsOH%~NVQ~qKmNzvPu#g9E+b>$-fTkj)U~d#ce~!RQhY7k4P>6(64wz+%}80F@tY$n",
    "b3jPE3*_%54dv9u`{_LZCOhZ<UG?Zom;c@cDtki;6?-i~ib3>fmY>m9Vl0f#C)Q2=U7ld$H_3kdF{~21*T#(y{}+eT&w2>EDm|D@d#da#3(lSm",
    "T~=P5TOlI1Z!z_`Jjht}+s7BiiMU^s!E4Fc!YDkmgSOpk=c1p|1**<Rvsr%SXX<ou+h%yJfDbt&({3cB64TEgoq;u?wunmqc>W!U^|NL)6A<3r",
    "tZ|*fd;3YswlE16Cmdhe-YICw?)A)BcIYgdCs)-U2|9EHG^i*F;^Z2~-{T?cmF^3Yf*+}R9X(#9uPNqr*J&x@HsC>4+XvEMJd0Mh4aM;-N`MDc",
    "md8;k8Hi}lBt3*b;^oa|1{I>H&v-XB-d#KU3+^^`=OxLUU=?`^{Wh&DS=X=SRQ^Q!COHTuuwh<y@H(D}I^;+jovEp@{tPA3SK_t|ny$LlqsN%A",
    "Lw3iWj7!1=dXH<n+RA`-xZ@u7+Sk|(+izTFd<VpYh1zH5=}$vnJ8136f9;a9=*2+)|K&h)|G<zPE2n*zRbVzjuRU4#G;5K86ZqTq*n!gHmUvq`",
    "o1U+4eR^mmk@}ql$y*pqg;&8r3@EC4VwqhOjxOc**{GsgI6oJ-e#~+h=aXo}<!F3@Jkx~~9`=hLq-${OE^@0dKOYp|v$NU+^oV)OWzH<@Lm}^y",
    "!bVd18uA3(^L#@t84@4dr5<`O@WF@43Y~2JAKDzkKJ)A#Qp;wChMN{UzOHlOM#gGTTN~!m|2NV+^elk8LBUm6dk^FHo-bkNqoi_C3ZqFHc8cbg",
    "QMk%!9))EOAj(Ok)OZR#k8|3l3jt0D%NxbUb`#8E$G1hV;RBdqGMl<HMaOZspo|KCz*C}MMPpFpnV*C~I%&p=BMo1nE6GJpQ+}O43z9)!Cs-RJ",
    "^{GEdgH^4T(O8YOT!3`#_T^=QUYQjaOJFGrZN<cb%*G<&g`@t=Xp3vcuoIvVhKf=}4=xWJKh*clWaW$wbC`wqKm=YF1V$V=z{We>!3KqY4t2h0",
    "`8AJF@&H;{jUmR+^jukFk=_7(E~~YJp|RNU4~kovdLGSaiAVeYf7SSpW>C3zG-U<Ips1!2HEUa{x_|_t+0Rruhrck*QC1pb7rPt&a{vGUxh=6f",
    "$m~fA00H<4@ge{KM6@?`vBYQl0ssI200dcD",
)
